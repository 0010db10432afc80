package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
)

// desk is a served immune system, with a control plane that is told what to say.
type desk struct {
	t      *testing.T
	db     *dbtest.Database
	store  *postgres.Immune
	immune brainv1.ImmuneSystemServiceClient
	plane  *plane
	tenant uuid.UUID
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := dbtest.New(t)
	k := &desk{t: t, db: d, store: postgres.NewImmune(d.DB), plane: &plane{made: map[string]*policyv1.Policy{}}, tenant: dbtest.Tenant(t, d)}
	plane := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	policyv1.RegisterPolicyServiceServer(plane.GRPC(), k.plane)
	to := policyv1.NewPolicyServiceClient(dialled(t, plane))
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	brainv1.RegisterImmuneSystemServiceServer(srv.GRPC(), NewImmune(k.store, to))
	k.immune = brainv1.NewImmuneSystemServiceClient(dialled(t, srv))
	return k
}

// plane is a control plane that makes a policy once for each idempotency key.
type plane struct {
	policyv1.UnimplementedPolicyServiceServer
	mu   sync.Mutex // guards the rest
	made map[string]*policyv1.Policy
	fail error
	by   []identity.Principal
}

func (p *plane) CreatePolicy(ctx context.Context, req *policyv1.CreatePolicyRequest) (*policyv1.CreatePolicyResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return nil, p.fail
	}
	md, _ := metadata.FromIncomingContext(ctx)
	key := strings.Join(md.Get("idempotency-key"), ",")
	if p.made[key] == nil {
		p.made[key] = proto.CloneOf(req.GetPolicy())
		p.made[key].PolicyId = uuid.NewString()
		p.by = append(p.by, who)
	}
	return &policyv1.CreatePolicyResponse{Policy: p.made[key]}, nil
}

func (p *plane) GetPolicy(_ context.Context, req *policyv1.GetPolicyRequest) (*policyv1.GetPolicyResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, made := range p.made {
		if made.GetPolicyId() == req.GetPolicyId() {
			return &policyv1.GetPolicyResponse{Policy: made}, nil
		}
	}
	return nil, fault.New(fault.NotFound, "no such policy")
}

func (p *plane) fails(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.made)
}

func (k *desk) as(p identity.Principal) context.Context {
	ctx, cancel := context.WithTimeout(k.t.Context(), 2*time.Minute)
	k.t.Cleanup(cancel)
	if p.Tenant == uuid.Nil {
		p.Tenant = k.tenant
	}
	if p.KeyID == "" {
		p.KeyID = "key-of-a-person"
	}
	return identity.With(ctx, p)
}

// person is somebody who may do everything.
func (k *desk) person() context.Context {
	return k.as(identity.Principal{UserID: "ada", Scopes: []string{"*"}})
}

// denials are events of one agent's denied actions at a time.
func (k *desk) denials(n int, at time.Time) []*busv1.Event {
	k.t.Helper()
	var all []*busv1.Event
	for i := range n {
		payload, err := structpb.NewStruct(map[string]any{
			"method": "authorize", "action_kind": "TOOL_CALL", "action_name": "grant_admin", "action_mark": fmt.Sprint(i),
			"reasons": []any{map[string]any{"policy_id": "p", "decision": "DENY"}},
		})
		if err != nil {
			k.t.Fatal(err)
		}
		all = append(all, &busv1.Event{
			EventId: uuid.Must(uuid.NewV7()).String(), TenantId: k.tenant.String(), Type: "decision_made", Origin: busv1.Origin_ORIGIN_SYSTEM, Writer: "gateway",
			OccurredAt: timestamppb.New(at), AgentId: "agent-1", ApiKeyId: "key-of-the-agent", UserId: "eve", Decision: "DENY", Payload: payload,
		})
	}
	return all
}

func (k *desk) count(events ...*busv1.Event) {
	k.t.Helper()
	if err := k.store.Count(k.t.Context(), k.tenant, events); err != nil {
		k.t.Fatal(err)
	}
}

func (k *desk) rows(want int64, table string) {
	k.t.Helper()
	if n := dbtest.Count(k.t, k.db, `select count(*) from fulcrum.`+table); n != want {
		k.t.Errorf("%d rows of %s, want %d", n, table, want)
	}
}

// pending returns the only draft.
func (k *desk) pending() *brainv1.GeneratedPolicy {
	k.t.Helper()
	resp, err := k.immune.GetPendingPolicies(k.person(), &brainv1.GetPendingPoliciesRequest{})
	if err != nil || len(resp.GetPolicies()) != 1 {
		k.t.Fatalf("pending: %v, %v", resp, err)
	}
	return resp.GetPolicies()[0]
}

// noon is the start of a window of any length that divides an hour; of this hour,
// because windows of long ago are forgotten.
var noon = time.Now().UTC().Truncate(time.Hour)

// However many count, and however often an event comes, a pattern's window opens
// one incident.
func TestAnIncidentIsOpenedOnceForAPatternAndWindow(t *testing.T) {
	t.Parallel()
	k := newDesk(t)
	events := k.denials(60, noon)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 6 { // each event is delivered by several, in overlapping batches
				from := (i*7 + j*10) % 55
				if err := k.store.Count(t.Context(), k.tenant, events[from:from+5]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	k.count(events...)
	k.count(events...)
	k.rows(1, "incidents")
	k.rows(1, "generated_policies")
	k.rows(1, "outbox where type = 'incident_opened'")
	k.rows(60, "inbox where consumer = 'immune'")
	if n := dbtest.Count(t, k.db, `select amount from fulcrum.immune_windows where detector = 'privilege'`); n != 60 {
		t.Errorf("%d were counted of 60", n)
	}

	k.count(k.denials(19, noon.Add(5*time.Minute))...)
	k.rows(1, "incidents")
	k.count(k.denials(1, noon.Add(9*time.Minute))...)
	k.rows(2, "incidents")
	k.rows(1, "generated_policies") // somebody is thinking about it already
	patterns, err := k.immune.GetAttackPatterns(k.person(), &brainv1.GetAttackPatternsRequest{TenantId: k.tenant.String()})
	if err != nil || len(patterns.GetPatterns()) != 1 || patterns.GetPatterns()[0].GetFrequency() != 2 || patterns.GetPatterns()[0].GetAffectedTenants()[0] != k.tenant.String() {
		t.Errorf("patterns: %v, %v", patterns, err)
	}
	list, err := k.immune.ListIncidents(k.person(), &brainv1.ListIncidentsRequest{})
	if err != nil || len(list.GetIncidents()) != 2 || list.GetIncidents()[0].GetDetails()["agent_id"] != "agent-1" ||
		list.GetIncidents()[0].GetCategory() != brainv1.IncidentCategory_INCIDENT_CATEGORY_POLICY_VIOLATION {
		t.Errorf("incidents: %v, %v", list, err)
	}
	// Another tenant sees none of it.
	other := k.as(identity.Principal{Tenant: dbtest.Tenant(t, k.db), Scopes: []string{"*"}})
	if resp, err := k.immune.ListIncidents(other, &brainv1.ListIncidentsRequest{}); err != nil || len(resp.GetIncidents()) != 0 {
		t.Errorf("another tenant: %v, %v", resp, err)
	}
	if _, err := k.immune.ListIncidents(other, &brainv1.ListIncidentsRequest{TenantId: k.tenant.String()}); !fault.Is(err, fault.Denied) {
		t.Errorf("another tenant by name: %v", err)
	}
}

// An approved draft becomes a policy by the person's own rights, once.
func TestAPersonApprovesADraft(t *testing.T) {
	t.Parallel()
	k := newDesk(t)
	k.count(k.denials(20, noon)...)
	draft := k.pending()
	if !draft.GetApprovalRequired() || draft.GetStatus() != brainv1.GeneratedPolicyStatus_GENERATED_POLICY_STATUS_PENDING || draft.GetReasoning() == "" || draft.GetSourcePattern() == "" {
		t.Errorf("draft: %v", draft)
	}
	approve := &brainv1.ReviewGeneratedPolicyRequest{
		PolicyId: draft.GetPolicy().GetPolicyId(), Decision: brainv1.ReviewDecision_REVIEW_DECISION_APPROVE, ReviewerId: "somebody-else", ReviewNotes: "yes",
	}
	// A control plane that is away leaves the answer standing; repeated, it goes on.
	k.plane.fails(fault.New(fault.Down, "away").WithRetry(time.Second))
	if _, err := k.immune.ReviewGeneratedPolicy(k.person(), approve); !fault.Is(err, fault.Down) {
		t.Fatal(err)
	}
	k.plane.fails(nil)
	reject := proto.CloneOf(approve)
	reject.Decision = brainv1.ReviewDecision_REVIEW_DECISION_REJECT
	if _, err := k.immune.ReviewGeneratedPolicy(k.person(), reject); !fault.Is(err, fault.Precondition) {
		t.Errorf("another answer meanwhile: %v", err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			resp, err := k.immune.ReviewGeneratedPolicy(k.person(), approve)
			if err != nil || !resp.GetActivated() || resp.GetPolicy().GetStatus() != policyv1.PolicyStatus_POLICY_STATUS_ACTIVE {
				t.Errorf("approved: %v, %v", resp, err)
			}
		})
	}
	all.Wait()
	if k.plane.count() != 1 || k.plane.by[0].UserID != "ada" || k.plane.by[0].Tenant != k.tenant {
		t.Errorf("the control plane: %v by %v", k.plane.made, k.plane.by)
	}
	k.rows(1, `generated_policies where state = 'APPROVED' and policy_id is not null and reviewer = 'user:ada'`)
	k.rows(2, `outbox where type = 'generated_policy_reviewed'`) // the answer, and that it was carried out
	if resp, err := k.immune.GetPendingPolicies(k.person(), &brainv1.GetPendingPoliciesRequest{}); err != nil || len(resp.GetPolicies()) != 0 {
		t.Errorf("still pending: %v, %v", resp, err)
	}
}

// Rejected, nothing comes of it; to be modified, it becomes a draft of the
// control plane; refused there, it is pending again.
func TestOtherAnswersToADraft(t *testing.T) {
	t.Parallel()
	for answer, want := range map[brainv1.ReviewDecision]struct {
		state string
		made  int
	}{
		brainv1.ReviewDecision_REVIEW_DECISION_REJECT: {"REJECTED", 0},
		brainv1.ReviewDecision_REVIEW_DECISION_MODIFY: {"MODIFIED", 1},
	} {
		k := newDesk(t)
		k.count(k.denials(20, noon)...)
		req := &brainv1.ReviewGeneratedPolicyRequest{PolicyId: k.pending().GetPolicy().GetPolicyId(), Decision: answer}
		for range 2 {
			resp, err := k.immune.ReviewGeneratedPolicy(k.person(), req)
			if err != nil || resp.GetActivated() || resp.GetPolicy().GetStatus() != policyv1.PolicyStatus_POLICY_STATUS_DRAFT {
				t.Errorf("%s: %v, %v", answer, resp, err)
			}
		}
		if k.plane.count() != want.made {
			t.Errorf("%s: %d policies", answer, k.plane.count())
		}
		k.rows(1, "generated_policies where state = '"+want.state+"'")
	}
	k := newDesk(t)
	k.count(k.denials(20, noon)...)
	req := &brainv1.ReviewGeneratedPolicyRequest{PolicyId: k.pending().GetPolicy().GetPolicyId(), Decision: brainv1.ReviewDecision_REVIEW_DECISION_APPROVE}
	k.plane.fails(fault.Field("policy.rules", "no"))
	if _, err := k.immune.ReviewGeneratedPolicy(k.person(), req); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	k.pending()
}

// Who may not review changes nothing by trying.
func TestReviewsThatAreRefused(t *testing.T) {
	t.Parallel()
	k := newDesk(t)
	k.count(k.denials(20, noon)...)
	id := k.pending().GetPolicy().GetPolicyId()
	approve := brainv1.ReviewDecision_REVIEW_DECISION_APPROVE
	every := []string{"*"}
	for name, tt := range map[string]struct {
		who  identity.Principal
		id   string
		with brainv1.ReviewDecision
		note string
		want fault.Kind
	}{
		"the agent that caused it":  {identity.Principal{AgentID: "agent-1", Scopes: every}, id, approve, "", fault.Denied},
		"another agent":             {identity.Principal{AgentID: "agent-2", Scopes: every}, id, approve, "", fault.Denied},
		"the agent's key":           {identity.Principal{KeyID: "key-of-the-agent", Scopes: every}, id, approve, "", fault.Denied},
		"the person it acted for":   {identity.Principal{UserID: "eve", Scopes: every}, id, approve, "", fault.Denied},
		"wrong scope":               {identity.Principal{UserID: "ada", Scopes: []string{"policy:write", "policy:read"}}, id, approve, "", fault.Denied},
		"no right to make policies": {identity.Principal{UserID: "ada", Scopes: []string{"policy:approve"}}, id, approve, "", fault.Denied},
		"another tenant":            {identity.Principal{Tenant: dbtest.Tenant(t, k.db), UserID: "ada", Scopes: every}, id, approve, "", fault.NotFound},
		"nobody's":                  {identity.Principal{UserID: "ada", Scopes: every}, uuid.NewString(), approve, "", fault.NotFound},
		"no id":                     {identity.Principal{UserID: "ada", Scopes: every}, "x", approve, "", fault.Invalid},
		"no answer":                 {identity.Principal{UserID: "ada", Scopes: every}, id, 0, "", fault.Invalid},
		"a long note":               {identity.Principal{UserID: "ada", Scopes: every}, id, approve, strings.Repeat("x", 4097), fault.Invalid},
	} {
		_, err := k.immune.ReviewGeneratedPolicy(k.as(tt.who), &brainv1.ReviewGeneratedPolicyRequest{PolicyId: tt.id, Decision: tt.with, ReviewNotes: tt.note})
		if !fault.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.pending()
	k.rows(0, "outbox where type = 'generated_policy_reviewed'")
	if k.plane.count() != 0 {
		t.Error("a policy was made")
	}
}

// A tenant says what is too much, for itself.
func TestATenantSetsItsDetectors(t *testing.T) {
	t.Parallel()
	k := newDesk(t)
	resp, err := k.immune.UpdateDetector(k.person(), &brainv1.UpdateDetectorRequest{Name: "privilege", Threshold: proto.Int64(3), WindowSeconds: proto.Int32(60)})
	if err != nil || resp.GetDetector().GetThreshold() != 3 || !resp.GetDetector().GetEnabled() || resp.GetDetector().GetUpdatedBy() != "user:ada" {
		t.Fatalf("%v, %v", resp, err)
	}
	k.count(k.denials(2, noon)...)
	k.rows(0, "incidents")
	k.count(k.denials(1, noon)...)
	k.rows(1, "incidents")
	if _, err := k.immune.UpdateDetector(k.person(), &brainv1.UpdateDetectorRequest{Name: "privilege", Enabled: proto.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	k.count(k.denials(50, noon.Add(time.Hour))...)
	k.rows(1, "incidents")
	list, err := k.immune.ListDetectors(k.person(), &brainv1.ListDetectorsRequest{})
	if err != nil || len(list.GetDetectors()) != 4 || list.GetDetectors()[0].GetUpdatedAt() != nil {
		t.Errorf("%v, %v", list, err)
	}
	k.rows(2, "outbox where type = 'detector_updated'")

	every := []string{"*"}
	for name, tt := range map[string]struct {
		who identity.Principal
		req *brainv1.UpdateDetectorRequest
		to  fault.Kind
	}{
		"an agent":       {identity.Principal{AgentID: "agent-1", Scopes: every}, &brainv1.UpdateDetectorRequest{Name: "loop", Enabled: proto.Bool(false)}, fault.Denied},
		"wrong scope":    {identity.Principal{Scopes: []string{"policy:write"}}, &brainv1.UpdateDetectorRequest{Name: "loop", Enabled: proto.Bool(false)}, fault.Denied},
		"unknown":        {identity.Principal{Scopes: every}, &brainv1.UpdateDetectorRequest{Name: "astrology"}, fault.Invalid},
		"one is nothing": {identity.Principal{Scopes: every}, &brainv1.UpdateDetectorRequest{Name: "loop", Threshold: proto.Int64(1)}, fault.Invalid},
		"a long window":  {identity.Principal{Scopes: every}, &brainv1.UpdateDetectorRequest{Name: "loop", WindowSeconds: proto.Int32(86401)}, fault.Invalid},
	} {
		if _, err := k.immune.UpdateDetector(k.as(tt.who), tt.req); !fault.Is(err, tt.to) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.rows(1, "immune_detectors")
}

// What people report adds up like what detectors find, and is paged.
func TestPeopleReportIncidents(t *testing.T) {
	t.Parallel()
	k := newDesk(t)
	report := &brainv1.ReportIncidentRequest{Incident: &brainv1.Incident{
		IncidentId: "ignored", Category: brainv1.IncidentCategory_INCIDENT_CATEGORY_SECURITY_BREACH, Severity: brainv1.IncidentSeverity_INCIDENT_SEVERITY_CRITICAL,
		Description: "it mailed the keys", Details: map[string]string{"agent_id": "agent-1", "x": "y"},
	}}
	once := metadata.AppendToOutgoingContext(k.person(), "idempotency-key", "r1")
	first, err := k.immune.ReportIncident(once, report)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if again, err := k.immune.ReportIncident(once, report); err != nil || again.GetIncidentId() != first.GetIncidentId() {
				t.Errorf("again: %v, %v", again, err)
			}
		})
	}
	all.Wait()
	k.rows(1, "incidents")
	other := proto.CloneOf(report)
	other.Incident.Description = "something else"
	if _, err := k.immune.ReportIncident(once, other); !fault.Is(err, fault.Conflict) {
		t.Errorf("the key for another body: %v", err)
	}
	for range 4 {
		if _, err := k.immune.ReportIncident(k.person(), report); err != nil {
			t.Fatal(err)
		}
	}
	k.rows(5, "outbox where type = 'incident_opened'")
	var ids []string
	for token := ""; ; {
		page, err := k.immune.ListIncidents(k.person(), &brainv1.ListIncidentsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range page.GetIncidents() {
			ids = append(ids, in.GetIncidentId())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
		if _, err := k.immune.GetAttackPatterns(k.person(), &brainv1.GetAttackPatternsRequest{PageToken: token}); !fault.Is(err, fault.Invalid) {
			t.Errorf("a token of another list: %v", err)
		}
	}
	if len(ids) != 5 || ids[4] != first.GetIncidentId() {
		t.Errorf("pages: %v", ids)
	}

	bad := func(change func(*brainv1.Incident)) *brainv1.ReportIncidentRequest {
		req := proto.CloneOf(report)
		change(req.GetIncident())
		return req
	}
	details := map[string]string{}
	for i := range 5 {
		details[fmt.Sprint(i)] = strings.Repeat("x", 65000)
	}
	for name, tt := range map[string]struct {
		scope string
		req   *brainv1.ReportIncidentRequest
		want  fault.Kind
	}{
		"wrong scope":    {"event:read", report, fault.Denied},
		"nothing":        {"*", &brainv1.ReportIncidentRequest{}, fault.Invalid},
		"empty":          {"*", &brainv1.ReportIncidentRequest{Incident: &brainv1.Incident{}}, fault.Invalid},
		"another tenant": {"*", bad(func(in *brainv1.Incident) { in.TenantId = uuid.NewString() }), fault.Denied},
		"long ago":       {"*", bad(func(in *brainv1.Incident) { in.Timestamp = timestamppb.New(noon.AddDate(-5, 0, 0)) }), fault.Invalid},
		"no such kind":   {"*", bad(func(in *brainv1.Incident) { in.Category = 99 }), fault.Invalid},
		"too long":       {"*", bad(func(in *brainv1.Incident) { in.Description = strings.Repeat("x", 8193) }), fault.Invalid},
		"too much":       {"*", bad(func(in *brainv1.Incident) { in.Details = details }), fault.Invalid},
	} {
		if _, err := k.immune.ReportIncident(k.as(identity.Principal{Scopes: []string{tt.scope}}), tt.req); !fault.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.rows(5, "incidents")
}

// dialled serves srv until the test ends, and returns a connection to it.
func dialled(t *testing.T, srv *rpc.Server) *grpc.ClientConn {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, srv, ln, 10*time.Second) }()
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}
