package decision_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

const (
	allow = governancev1.Decision_DECISION_ALLOW
	warn  = governancev1.Decision_DECISION_WARN
	deny  = governancev1.Decision_DECISION_DENY
)

// world is every port of the pipeline, in memory.
type world struct {
	mu        sync.Mutex // guards the rest
	envelopes map[uuid.UUID]*envelope.Envelope
	keys      map[string]*decision.StoredKey
	entries   []*decision.Entry
	holds     map[string]string // reservation to HELD or RELEASED

	evaluate func() (*policyenginev1.EvaluateResponse, error)
	reserve  func(*budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error)
	record   func(*decision.Entry) error // before recording; an error means that it was not
	lose     error                       // after recording: the reply is lost
	loads    int
	giveUp   error // what GiveUp fails with
	modes    decision.FailureModes
}

func newWorld() (*world, *decision.Pipeline) {
	w := &world{envelopes: make(map[uuid.UUID]*envelope.Envelope), keys: make(map[string]*decision.StoredKey), holds: make(map[string]string)}
	return w, &decision.Pipeline{Store: w, Recorder: w, Policies: w, Ledger: w, Tenants: w, Log: slog.New(slog.DiscardHandler)}
}

func (w *world) Load(_ context.Context, _ uuid.UUID, q decision.Query) (decision.Loaded, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loads++
	ld := decision.Loaded{Now: time.Now(), Envelope: w.envelopes[q.Envelope]}
	if k := w.keys[q.Scope+q.Key]; k != nil {
		copied := *k
		ld.Key = &copied
	}
	return ld, nil
}

func (w *world) LoadDecision(_ context.Context, _, id uuid.UUID, q decision.Query) (decision.Record, *decision.StoredKey, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if e.Decision != nil && e.Decision.ID == id {
			return *e.Decision, w.keys[q.Scope+q.Key], nil
		}
	}
	return decision.Record{}, w.keys[q.Scope+q.Key], nil
}

func (w *world) Baselines(context.Context, uuid.UUID, []uuid.UUID) (map[uuid.UUID]*policyv1.FieldStatistics, error) {
	return nil, nil
}

func (w *world) Counted(context.Context, uuid.UUID, []uuid.UUID) (map[uuid.UUID]int64, error) {
	return nil, nil
}

func (w *world) RenewSlots(context.Context, uuid.UUID, uuid.UUID, time.Duration) (int, time.Time, error) {
	return 0, time.Time{}, nil
}

func (w *world) GiveUp(_ context.Context, _ uuid.UUID, c decision.Claim) (int32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.giveUp != nil {
		return 0, w.giveUp
	}
	if k := w.keys[c.Scope+c.Key]; k != nil && k.Answered {
		return 0, decision.ErrRecorded
	}
	w.keys[c.Scope+c.Key] = &decision.StoredKey{Hash: c.Hash[:], Attempt: c.Attempt + 1}
	return c.Attempt + 1, nil
}

func (w *world) Record(_ context.Context, e *decision.Entry) (decision.Recorded, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.record != nil {
		if err := w.record(e); err != nil {
			return decision.Recorded{}, err
		}
	}
	if c := e.Claim; c != nil {
		name := c.Scope + c.Key
		if k := w.keys[name]; k != nil && k.Answered {
			if !bytes.Equal(k.Hash, c.Hash[:]) {
				return decision.Recorded{}, decision.ErrKeyReused
			}
			return decision.Recorded{Stored: k.Response}, nil
		}
		w.keys[name] = &decision.StoredKey{Hash: bytes.Clone(c.Hash[:]), Answered: true, Response: c.Response, Attempt: c.Attempt}
	}
	w.entries = append(w.entries, e)
	return decision.Recorded{}, w.lose
}

func (w *world) Evaluate(context.Context, *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	if w.evaluate != nil {
		return w.evaluate()
	}
	return &policyenginev1.EvaluateResponse{Decision: allow, PolicySetVersion: 3}, nil
}

func (w *world) Reserve(_ context.Context, req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reserve != nil {
		return w.reserve(req)
	}
	return w.grant(req)
}

func (w *world) grant(req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
	if w.holds[req.GetReservationId()] == "RELEASED" {
		return nil, fault.New(fault.Precondition, "the hold has ended")
	}
	w.holds[req.GetReservationId()] = "HELD"
	return &budgetv1.ReserveResponse{Granted: true, Hold: &governancev1.Hold{ReservationId: req.GetReservationId(), Amounts: req.GetAmounts()}}, nil
}

func (w *world) Release(_ context.Context, req *budgetv1.ReleaseRequest) (*budgetv1.ReleaseResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds[req.GetReservationId()] = "RELEASED"
	return &budgetv1.ReleaseResponse{}, nil
}

func (w *world) Settle(context.Context, *budgetv1.SettleRequest) (*budgetv1.SettleResponse, error) {
	return &budgetv1.SettleResponse{}, nil
}

func (w *world) Renew(context.Context, *budgetv1.RenewRequest) (*budgetv1.RenewResponse, error) {
	return &budgetv1.RenewResponse{}, nil
}

func (w *world) TakeSlice(context.Context, *budgetv1.TakeSliceRequest) (*budgetv1.TakeSliceResponse, error) {
	return &budgetv1.TakeSliceResponse{Granted: true}, nil
}

func (w *world) GetStandings(context.Context, *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error) {
	return &budgetv1.GetStandingsResponse{}, nil
}

func (w *world) ClaimSlice(context.Context, uuid.UUID, uuid.UUID) error { return nil }

func (w *world) Budget(context.Context, string) (*costv1.BudgetStatus, error) {
	return &costv1.BudgetStatus{}, nil
}

func (w *world) FailureModes(context.Context, uuid.UUID) (decision.FailureModes, error) {
	return w.modes, nil
}

func (w *world) count(state string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.holds {
		if s == state {
			n++
		}
	}
	return n
}

func who() identity.Principal { return identity.Principal{Tenant: uuid.New(), KeyID: "k"} }

func call() *governancev1.AuthorizeRequest {
	return &governancev1.AuthorizeRequest{
		Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "t"}, IdempotencyKey: uuid.NewString(),
	}
}

// The reply to the commit is lost: the decision stands, and is found.
func TestALostCommitReplyIsNoLostDecision(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	w.lose = errors.New("connection reset")
	resp, err := p.Authorize(t.Context(), who(), call())
	if err != nil || resp.GetDecision() != allow || resp.GetHold() == nil {
		t.Fatal(resp, err)
	}
	if len(w.entries) != 1 || w.count("HELD") != 1 || w.count("RELEASED") != 0 {
		t.Errorf("%d entries, %v", len(w.entries), w.holds)
	}
}

// Nobody knows whether it was recorded: there is no yes, and the hold stays,
// since the decision may stand on it.
func TestAnUnknownOutcomeKeepsTheHold(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	w.lose, w.giveUp = errors.New("connection reset"), errors.New("still away")
	as, req := who(), call()
	if resp, err := p.Authorize(t.Context(), as, req); !fault.HasReason(err, "NOT_RECORDED") {
		t.Fatal(resp, err)
	}
	if w.count("HELD") != 1 {
		t.Errorf("holds: %v", w.holds)
	}
	w.lose, w.giveUp = nil, nil
	if resp, err := p.Authorize(t.Context(), as, req); err != nil || resp.GetDecision() != allow {
		t.Errorf("asked again: %v, %v", resp, err)
	}
	if len(w.entries) != 1 {
		t.Errorf("%d entries", len(w.entries))
	}
}

// A hold that an earlier try left and that has expired meanwhile is not taken
// for one: the next try gets a hold of its own.
func TestAnExpiredHoldIsReplaced(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	first := true
	w.reserve = func(req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		if first {
			first = false
			return nil, fault.New(fault.Precondition, "the hold has ended: it is expired")
		}
		return w.grant(req)
	}
	resp, err := p.Authorize(t.Context(), who(), call())
	if err != nil || resp.GetDecision() != allow || w.holds[resp.GetHold().GetReservationId()] != "HELD" {
		t.Fatal(resp, err, w.holds)
	}
}

// The envelope is killed while an action in it is judged: the answer is no, and
// nothing stays held.
func TestAKillDuringADecisionWins(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	id := uuid.New()
	w.envelopes[id] = &envelope.Envelope{ID: id, Root: id, Status: envelope.Running, Governance: &envelopev1.GovernanceContext{}}
	w.record = func(e *decision.Entry) error {
		if e.Decision.Response.GetDecision() != allow {
			return nil
		}
		killed := *w.envelopes[id]
		killed.Status = envelope.Terminated
		w.envelopes[id] = &killed
		return decision.ErrEnvelopeEnded
	}
	req := call()
	req.Envelope = &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: id.String()}
	resp, err := p.Authorize(t.Context(), who(), req)
	if err != nil || resp.GetDecision() != deny || resp.GetMessage() != "denied: the envelope is TERMINATED" {
		t.Fatal(resp, err)
	}
	if w.count("HELD") != 0 || w.count("RELEASED") != 1 || len(w.entries) != 1 {
		t.Errorf("%v, %d entries", w.holds, len(w.entries))
	}
}

// A state that never stops changing is an error in the end, not a loop.
func TestADecisionThatNeverSettlesEnds(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	w.record = func(*decision.Entry) error { return decision.ErrEnvelopeEnded }
	if resp, err := p.Authorize(t.Context(), who(), call()); !fault.HasReason(err, "CONTENDED") {
		t.Fatal(resp, err)
	}
	if w.count("HELD") != 0 {
		t.Errorf("holds: %v", w.holds)
	}
}

// What the engine says that is no decision is treated as its absence.
func TestNoDecisionIsADenial(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	for name, say := range map[string]func() (*policyenginev1.EvaluateResponse, error){
		"an empty answer": func() (*policyenginev1.EvaluateResponse, error) { return &policyenginev1.EvaluateResponse{}, nil },
		"no answer":       func() (*policyenginev1.EvaluateResponse, error) { return nil, nil },
		"an error":        func() (*policyenginev1.EvaluateResponse, error) { return nil, errors.New("broken") },
		"a refusal":       func() (*policyenginev1.EvaluateResponse, error) { return nil, fault.New(fault.Unauthenticated, "who?") },
	} {
		w.evaluate = say
		if resp, err := p.Authorize(t.Context(), who(), call()); err != nil || resp.GetDecision() != deny || !resp.GetDegraded() {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	w.evaluate = func() (*policyenginev1.EvaluateResponse, error) { return nil, fault.Field("facts", "are too large") }
	if resp, err := p.Authorize(t.Context(), who(), call()); !fault.Is(err, fault.Invalid) {
		t.Errorf("facts that cannot be judged: %v, %v", resp, err)
	}
	w.evaluate = func() (*policyenginev1.EvaluateResponse, error) {
		return nil, fault.New(fault.Down, "not that version")
	}
	newer := call()
	newer.AtLeastVersion = 9
	if resp, err := p.Authorize(t.Context(), who(), newer); !fault.Is(err, fault.Down) {
		t.Errorf("a version that is not there: %v, %v", resp, err)
	}
}

// A soft limit turns a yes into a warning.
func TestASoftLimitWarns(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	w.reserve = func(req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error) {
		resp, err := w.grant(req)
		resp.Warnings = []*governancev1.BudgetState{{Name: "team"}}
		return resp, err
	}
	if resp, err := p.Authorize(t.Context(), who(), call()); err != nil || resp.GetDecision() != warn || resp.GetMessage() != "allowed with a warning: the budget team is over its soft limit" {
		t.Error(resp, err)
	}
}

// What a credential is bound to cannot be talked out of.
func TestBindingsOfACredentialWin(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	id := uuid.New()
	w.envelopes[id] = &envelope.Envelope{ID: id, Root: id, Status: envelope.Running, AgentID: "a1", Governance: &envelopev1.GovernanceContext{}}
	bound := who()
	bound.AgentID, bound.UserID, bound.Roles = "a2", "ada", []string{"viewer"}

	req := call()
	req.Envelope = &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: id.String()}
	if _, err := p.Authorize(t.Context(), bound, req); !fault.HasReason(err, "AGENT_MISMATCH") {
		t.Errorf("another agent's envelope: %v", err)
	}
	req = call()
	req.Principal = &governancev1.EndUser{UserId: "eve"}
	if _, err := p.Authorize(t.Context(), bound, req); !fault.HasReason(err, "USER_MISMATCH") {
		t.Errorf("another user: %v", err)
	}
	req = call()
	req.Principal = &governancev1.EndUser{Roles: []string{"admin"}}
	if _, err := p.Authorize(t.Context(), bound, req); err != nil {
		t.Fatal(err)
	}
	if f := w.entries[len(w.entries)-1].Decision.Facts; f.GetAgentId() != "a2" || f.GetUserId() != "ada" || len(f.GetUserRoles()) != 1 || f.GetUserRoles()[0] != "viewer" {
		t.Errorf("facts: %v", f)
	}
	// The same key and body of somebody else is another request.
	if _, err := p.Authorize(t.Context(), identity.Principal{Tenant: bound.Tenant, KeyID: "other"}, req); !errors.Is(err, decision.ErrKeyReused) {
		t.Errorf("somebody else's answer: %v", err)
	}
}

// What is recorded is enough to explain the answer.
func TestARecordExplainsTheAnswer(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	req := call()
	req.Attributes = map[string]string{"a": "b"}
	resp, err := p.Authorize(t.Context(), who(), req)
	if err != nil {
		t.Fatal(err)
	}
	e := w.entries[0]
	if d := e.Decision; !proto.Equal(d.Facts.GetAction(), req.GetAction()) || d.Facts.GetAttributes()["a"] != "b" || d.Facts.GetTimeUnixNano() == 0 ||
		d.Result.GetPolicySetVersion() != 3 || !proto.Equal(d.Response, resp) || d.Reservation.String() != resp.GetHold().GetReservationId() {
		t.Errorf("recorded: %+v", d)
	}
	stored := new(governancev1.AuthorizeResponse)
	if err := proto.Unmarshal(e.Claim.Response, stored); err != nil || !proto.Equal(stored, resp) {
		t.Errorf("stored: %v, %v", stored, err)
	}
	if ev := e.Events[0]; ev.GetType() != "decision_made" || ev.GetDecision() != "ALLOW" || ev.GetResource() != "tool:t" || ev.GetLatency().GetTotalUs() <= 0 {
		t.Errorf("event: %v", ev)
	}
}

// From memory or not, a decision comes out the same: repeated, with another
// body, under a key whose first attempt was given up, in an envelope that has
// ended.
func TestMemoryChangesNothing(t *testing.T) {
	t.Parallel()
	w, p := newWorld()
	p.Memory = decision.NewMemory(10)
	as, id := who(), uuid.New()
	w.envelopes[id] = &envelope.Envelope{ID: id, Root: id, Status: envelope.Running, WorkflowID: "w", Governance: &envelopev1.GovernanceContext{}}
	in := func() *governancev1.AuthorizeRequest {
		req := call()
		req.Envelope = &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: id.String()}
		return req
	}
	if _, err := p.Authorize(t.Context(), as, in()); err != nil { // read, and remembered
		t.Fatal(err)
	}
	w.loads = 0
	req := in()
	first, err := p.Authorize(t.Context(), as, req)
	if err != nil || w.loads != 0 || w.entries[1].Decision.Facts.GetWorkflowId() != "w" {
		t.Fatal(first, err, w.loads)
	}
	if again, err := p.Authorize(t.Context(), as, req); err != nil || !proto.Equal(again, first) {
		t.Errorf("repeated: %v, %v", again, err)
	}
	other := in()
	other.IdempotencyKey, other.Action.Name = req.GetIdempotencyKey(), "another"
	if _, err := p.Authorize(t.Context(), as, other); !errors.Is(err, decision.ErrKeyReused) {
		t.Errorf("another body: %v", err)
	}
	if w.count("HELD") != 2 || w.count("RELEASED") != 1 {
		t.Errorf("holds: %v", w.holds)
	}

	w.record = func(*decision.Entry) error { return errors.New("refused") }
	given := in()
	if _, err := p.Authorize(t.Context(), as, given); !fault.HasReason(err, "NOT_RECORDED") {
		t.Fatal(err)
	}
	w.record = func(e *decision.Entry) error {
		if k := w.keys[e.Claim.Scope+e.Claim.Key]; k != nil && !k.Answered && k.Attempt != e.Claim.Attempt {
			return decision.ErrGivenUp
		}
		if killed := w.envelopes[id].Status; killed != envelope.Running && e.Claim.OpenEnvelope == id {
			return decision.ErrEnvelopeEnded
		}
		return nil
	}
	if resp, err := p.Authorize(t.Context(), as, given); err != nil || resp.GetDecision() != allow || w.holds[resp.GetHold().GetReservationId()] != "HELD" {
		t.Errorf("after an attempt was given up: %v, %v", resp, err)
	}

	ended := *w.envelopes[id]
	ended.Status = envelope.Terminated
	w.envelopes[id] = &ended
	if resp, err := p.Authorize(t.Context(), as, in()); err != nil || resp.GetDecision() != deny {
		t.Errorf("in an ended envelope: %v, %v", resp, err)
	}
	if held := w.count("HELD"); held != 3 {
		t.Errorf("%d holds: %v", held, w.holds)
	}
}
