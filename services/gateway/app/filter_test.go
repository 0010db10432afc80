package app_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// An agent is shown what it may use: the policies are asked about each tool,
// and nothing is left behind.
func TestToolsAreFilteredAsTheyWouldBeDecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.says(func(req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		f := req.GetFacts()
		failed := func(why string) *policyenginev1.EvaluateResponse {
			r := judgement(denied)
			r.Results[0].Outcome, r.Results[0].Error = policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED, why
			return r
		}
		switch f.GetAction().GetName() {
		case "rm":
			return judgement(denied), nil
		case "refund":
			return judgement(asks), nil
		case "pay":
			return failed(`rule "r": action.args.amount is unknown`), nil
		case "odd":
			return failed("timeout"), nil
		case "pinned":
			if f.GetAttributes()["tool.description_hash"] != "abc" || len(f.GetAttributes()["tool.schema_hash"]) != 64 || f.GetAttributes()["a"] != "b" || f.GetUserId() != "ada" {
				return judgement(denied), nil
			}
		}
		return judgement(allowed), nil
	})
	schema, err := structpb.NewStruct(map[string]any{"type": "object"})
	if err != nil {
		t.Fatal(err)
	}
	req := &governancev1.FilterToolsRequest{
		Principal: &governancev1.EndUser{UserId: "ada"}, Attributes: map[string]string{"a": "b"},
		Tools: []*governancev1.Tool{{Name: "ls"}, {Name: "rm"}, {Name: "refund"}, {Name: "pay"}, {Name: "odd"}, {Name: "pinned", DescriptionHash: "abc", InputSchema: schema}, {Name: "ls"}},
	}
	resp, err := governanceOf(g).FilterTools(as(t, w.key(w.tenant, "envelope:write")), req)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tool := range resp.GetTools() {
		got = append(got, fmt.Sprintf("%s:%s:%v:%v", tool.GetName(), strings.TrimPrefix(tool.GetDecision().String(), "DECISION_"), tool.GetUsable(), tool.GetDependsOnArguments()))
	}
	want := "ls:ALLOW:true:false rm:DENY:false:false refund:REQUIRE_APPROVAL:true:false pay:ALLOW:true:true odd:DENY:false:false pinned:ALLOW:true:false ls:ALLOW:true:false"
	if strings.Join(got, " ") != want || resp.GetPolicySetVersion() != 7 || resp.GetTools()[1].GetReasons()[0].GetMessage() != "because of a rule" {
		t.Errorf("got  %s\nwant %s\n%v", strings.Join(got, " "), want, resp)
	}
	if n := dbtest.Count(t, w.db, `select (select count(*) from fulcrum.decisions) + (select count(*) from fulcrum.outbox)`); n != 0 || len(w.ledger.holds) != 0 {
		t.Errorf("%d rows and %d holds were left behind", n, len(w.ledger.holds))
	}
	if status, body := callHTTP(t, "POST", g.http+"/v1/tools:filter", `{"tools":[{"name":"rm"}]}`, "x-api-key", w.key(w.tenant, "policy:read")); status != 200 || !strings.Contains(body, `"usable":false`) {
		t.Errorf("over REST: %d %s", status, body)
	}
}

func TestFilteringRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	theirs, err := governanceOf(g).Authorize(as(t, w.key(newTenant(w), "*")), &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{AgentId: "agent-2"}}, Action: toolCall("").GetAction(), IdempotencyKey: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	ls := []*governancev1.Tool{{Name: "ls"}}
	many := make([]*governancev1.Tool, 257)
	for i := range many {
		many[i] = ls[0]
	}
	key, ada := w.key(w.tenant, "*"), w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"*"}, UserID: "ada"})
	for name, tt := range map[string]struct {
		key  string
		req  *governancev1.FilterToolsRequest
		want fault.Kind
	}{
		"wrong scope":               {w.key(w.tenant, "cost:read"), &governancev1.FilterToolsRequest{Tools: ls}, fault.Denied},
		"no tools":                  {key, &governancev1.FilterToolsRequest{}, fault.Invalid},
		"too many":                  {key, &governancev1.FilterToolsRequest{Tools: many}, fault.Invalid},
		"a tool without a name":     {key, &governancev1.FilterToolsRequest{Tools: []*governancev1.Tool{{}}}, fault.Invalid},
		"a long hash":               {key, &governancev1.FilterToolsRequest{Tools: []*governancev1.Tool{{Name: "x", DescriptionHash: strings.Repeat("x", 129)}}}, fault.Invalid},
		"another tenant's envelope": {key, &governancev1.FilterToolsRequest{EnvelopeId: theirs.GetEnvelopeId(), Tools: ls}, fault.NotFound},
		"another user":              {ada, &governancev1.FilterToolsRequest{Principal: &governancev1.EndUser{UserId: "bob"}, Tools: ls}, fault.Denied},
	} {
		if _, err := governanceOf(g).FilterTools(as(t, tt.key), tt.req); !fault.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.engine.says(func(*policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
		return nil, fault.New(fault.Down, "away")
	})
	resp, err := governanceOf(g).FilterTools(as(t, key), &governancev1.FilterToolsRequest{Tools: ls})
	if err != nil || resp.GetTools()[0].GetUsable() || !resp.GetDegraded() {
		t.Errorf("without policies: %v, %v", resp, err)
	}
}
