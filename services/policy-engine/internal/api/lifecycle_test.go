package api_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// denying is a policy that denies one tool.
func denying(id, tool string) *policyv1.Policy {
	return &policyv1.Policy{PolicyId: id, Rules: []*policyv1.PolicyRule{{
		RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}},
		Conditions: []*policyv1.PolicyCondition{{Field: "tool.name", Value: &policyv1.PolicyCondition_StringValue{StringValue: tool}}},
	}}}
}

func calling(tools ...string) (facts []*policyenginev1.Facts) {
	for _, tool := range tools {
		facts = append(facts, &policyenginev1.Facts{ToolNames: []string{tool}})
	}
	return facts
}

// open begins a simulation and returns it with the error of its first answer.
func open(ctx context.Context, t *testing.T, client policyenginev1.EvaluationServiceClient, changes *policyenginev1.SimulateChanges) (policyenginev1.EvaluationService_SimulateClient, error) {
	t.Helper()
	stream, err := client.Simulate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&policyenginev1.SimulateRequest{Changes: changes}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	return stream, err
}

func TestSimulateAnswersInOrderOneTenantAtATime(t *testing.T) {
	t.Parallel()
	client := serve(t, one{set: compiled(t, denying("p", "shell"))})
	changes := &policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{denying("p", "mail")}}
	tenant := identity.With(t.Context(), identity.System(uuid.New()))
	first, cancel := context.WithCancel(tenant)
	stream, err := open(first, t, client, changes)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(&policyenginev1.SimulateRequest{Facts: calling("shell", "search", "mail")}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil || got.GetPolicySetVersion() != 5 || len(got.GetDecisions()) != 3 {
			t.Fatalf("%v %v", got, err)
		}
		const allow, deny = governancev1.Decision_DECISION_ALLOW, governancev1.Decision_DECISION_DENY
		for i, want := range [][2]governancev1.Decision{{deny, allow}, {allow, allow}, {allow, deny}} {
			if d := got.GetDecisions()[i]; d.GetBefore() != want[0] || d.GetAfter() != want[1] {
				t.Errorf("decision %d: %v, want %v", i, d, want)
			}
		}
	}
	if _, err := open(tenant, t, client, changes); !errors.Is(rpc.FromStatus(err), fault.Exhausted) {
		t.Errorf("a second simulation of the tenant: %v", err)
	}
	cancel() // its place is free again, soon
	for {
		second, err := open(tenant, t, client, changes)
		if err == nil {
			if err := second.CloseSend(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if !errors.Is(rpc.FromStatus(err), fault.Exhausted) {
			t.Fatal(err)
		}
	}
}

func TestSimulateSaysWhichChangeDoesNotCompile(t *testing.T) {
	t.Parallel()
	client := serve(t, one{set: compiled(t, denying("p", "shell"))})
	_, err := open(caller(t.Context()), t, client, &policyenginev1.SimulateChanges{Policies: []*policyv1.Policy{denying("q", "x"), {Rego: "nonsense {{{"}}})
	f, _ := fault.As(rpc.FromStatus(err))
	if !errors.Is(rpc.FromStatus(err), fault.Invalid) || len(f.Violations) == 0 || f.Violations[0].Field != "policies[1].rego" {
		t.Errorf("%v %+v", err, f)
	}
	if _, err := open(t.Context(), t, client, nil); !errors.Is(rpc.FromStatus(err), fault.Unauthenticated) {
		t.Errorf("nobody: %v", err)
	}
}

// Live decisions are answered while a simulation runs flat out.
func TestASimulationLeavesLiveDecisionsAlone(t *testing.T) {
	t.Parallel()
	client := serve(t, one{set: compiled(t, denying("p", "shell"))})
	ctx, cancel := context.WithTimeout(caller(t.Context()), time.Minute)
	defer cancel()
	stream, err := open(ctx, t, client, &policyenginev1.SimulateChanges{Without: []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	var batch []*policyenginev1.Facts
	for range 500 {
		batch = append(batch, calling("shell")...)
	}
	var simulated atomic.Int64
	over, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for over.Err() == nil {
			if stream.Send(&policyenginev1.SimulateRequest{Facts: batch}) != nil {
				return
			}
			got, err := stream.Recv()
			if err != nil {
				return
			}
			simulated.Add(int64(len(got.GetDecisions())))
		}
	}()
	live := 0
	for ; live < 200 || simulated.Load() == 0; live++ {
		got, err := client.Evaluate(ctx, &policyenginev1.EvaluateRequest{Facts: calling("shell")[0]})
		if err != nil || got.GetDecision() != governancev1.Decision_DECISION_DENY {
			t.Fatalf("live: %v %v", got, err)
		}
	}
	stop()
	<-ended
	t.Logf("%d live decisions beside %d simulated", live, simulated.Load())
}

func TestAShadowIsAskedOnlyForDecisionsThatHaveAnId(t *testing.T) {
	t.Parallel()
	set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{TenantId: "t", Version: 5, Shadows: []*configv1.ShadowPolicy{
		{Policy: denying("p", "shell"), SharePerMyriad: 10_000},
	}})
	if err != nil {
		t.Fatal(err)
	}
	client := serve(t, one{set: set})
	for id, want := range map[string]int{"": 0, uuid.NewString(): 1} {
		got, err := client.Evaluate(caller(t.Context()), &policyenginev1.EvaluateRequest{Facts: calling("shell")[0], SampleKey: id})
		if err != nil || len(got.GetShadows()) != want || got.GetDecision() != governancev1.Decision_DECISION_ALLOW || len(got.GetResults()) != 0 {
			t.Errorf("id %q: %v %v", id, got, err)
		}
		if want == 1 && got.GetShadows()[0].GetDecision() != governancev1.Decision_DECISION_DENY {
			t.Errorf("shadow: %v", got.GetShadows())
		}
	}
}

func TestTestAndFormatAreServed(t *testing.T) {
	t.Parallel()
	client := serve(t, one{set: compiled(t)})
	p := &policyv1.Policy{Rego: "package fulcrum.policy\ndeny contains \"x\" if { input.tool.name==\"shell\" }\n", Tests: []*policyv1.PolicyTest{
		{Name: "it", Input: &policyv1.PolicyTestInput{ToolNames: []string{"shell"}}, Want: &policyv1.PolicyTestWant{Decision: governancev1.Decision_DECISION_DENY}},
	}}
	tested, err := client.Test(caller(t.Context()), &policyenginev1.TestRequest{Policy: p})
	if err != nil || !tested.GetReport().GetPassed() || tested.GetReport().GetCoverage().GetPercent() != 100 {
		t.Errorf("test: %v %v", tested, err)
	}
	broken, err := client.Test(caller(t.Context()), &policyenginev1.TestRequest{Policy: &policyv1.Policy{Rego: "nonsense {{{"}})
	if err != nil || broken.GetReport().GetPassed() || len(broken.GetReport().GetProblems()) == 0 {
		t.Errorf("test of what does not compile: %v %v", broken, err)
	}
	linted, err := client.Validate(caller(t.Context()), &policyenginev1.ValidateRequest{Policy: p, Format: true})
	if want := "package fulcrum.policy\n\ndeny contains \"x\" if input.tool.name == \"shell\"\n"; err != nil || linted.GetFormattedRego() != want {
		t.Errorf("format: %q %v", linted.GetFormattedRego(), err)
	}
	if _, err := client.Test(t.Context(), &policyenginev1.TestRequest{Policy: p}); !errors.Is(rpc.FromStatus(err), fault.Unauthenticated) {
		t.Errorf("nobody: %v", err)
	}
}
