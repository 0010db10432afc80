package policy_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// Whatever structured policies a tenant writes and whatever facts arrive, the
// engine and the naive evaluator agree on every policy and on the whole.
func TestEngineAgreesWithTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	rapid.Check(t, agreement(seen))
	// A generator that never gets anywhere proves nothing.
	for _, what := range []string{"spikes", "EVALUATED", "SKIPPED", "SHADOW", "FAILED", "DECISION_ALLOW", "DECISION_WARN", "DECISION_REQUIRE_APPROVAL", "DECISION_DENY", "rules"} {
		if seen[what] == 0 {
			t.Errorf("no case had %s: %v", what, seen)
		}
	}
	t.Log(seen)
	if text := os.Getenv("AGREE_FOR"); text != "" { // make fuzz-policy
		length, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("AGREE_FOR: %v", err)
		}
		onEveryCore(t, length)
	}
}

// onEveryCore goes on comparing for as long as it is told, on every core.
func onEveryCore(t *testing.T, length time.Duration) {
	var compared atomic.Int64
	began := time.Now()
	property := agreement(nil)
	for core := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("core ", core), func(t *testing.T) {
			t.Parallel()
			for said := began; !t.Failed() && time.Since(began) < length; {
				rapid.Check(t, func(t *rapid.T) { property(t); compared.Add(questions) })
				if core == 0 && time.Since(said) > 10*time.Second {
					said = time.Now()
					t.Logf("%.0f s: %d decisions compared", time.Since(began).Seconds(), compared.Load())
				}
			}
		})
	}
	t.Cleanup(func() { t.Logf("%.0f s: %d decisions compared", time.Since(began).Seconds(), compared.Load()) })
}

// The same, guided by coverage for as long as one likes: make fuzz.
func FuzzEngineAgreesWithTheNaiveEvaluator(f *testing.F) {
	// A case takes some hundred draws of eight bytes; with fewer there is none.
	random := rand.NewChaCha8([32]byte{})
	for range 16 {
		seed := make([]byte, 32<<10)
		_, _ = random.Read(seed) // never fails
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(agreement(nil)))
}

// questions is how many a bundle is asked.
const questions = 8

// agreement is that property; it counts in seen, if there is one, what the cases
// came to.
func agreement(seen map[string]int) func(*rapid.T) {
	c := policy.NewCompiler(nil)
	return func(t *rapid.T) {
		bundle := bundles().Draw(t, "bundle")
		set, err := c.Compile("t", bundle)
		if err != nil {
			t.Fatalf("a valid bundle does not compile: %v\n%s", err, protojson.Format(bundle))
		}
		for range questions {
			request := policy.Request{
				Facts:      facts().Draw(t, "facts"),
				StopOnDeny: rapid.Bool().Draw(t, "stop"),
			}
			if rapid.IntRange(0, 9).Draw(t, "some") == 0 {
				request.Only = []string{bundle.GetPolicies()[0].GetPolicyId()}
			}
			got, err := set.Evaluate(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			if stoodStill(got) {
				got = evaluateUnhurried(t, bundle, request)
			}
			want := naive(bundle, request)
			if diff := cmp.Diff(want, summary(got), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-naive +engine)\n%s\nfacts %s\nbundle %s", diff, protojson.Format(request.Facts), protojson.Format(bundle))
			}
			if seen == nil {
				continue
			}
			for _, p := range want.Policies {
				seen[p.Outcome]++
				seen["rules"] += len(p.Rules)
			}
			seen[want.Decision.String()]++
			if said := got.String(); strings.Contains(said, "standard deviations") || strings.Contains(said, "it does not hold yet") {
				seen["spikes"]++
			}
		}
	}
}

// Few names and few values, so that rules and facts meet.
var (
	words  = []string{"a", "b", "ab", "abc", ""}
	tools  = []string{"search", "shell", "pay"}
	models = []string{"small", "big"}
	roles  = []string{"admin", "dev", "ops"}
)

func pick(t *rapid.T, from []string, label string) string {
	return rapid.SampledFrom(from).Draw(t, label)
}

func oneIn(t *rapid.T, n int, label string) bool { return rapid.IntRange(1, n).Draw(t, label) == 1 }

func bundles() *rapid.Generator[*configv1.PolicyBundle] {
	return rapid.Custom(func(t *rapid.T) *configv1.PolicyBundle {
		b := &configv1.PolicyBundle{TenantId: "t", Version: 1, Settings: &configv1.TenantSettings{
			FailOpen: oneIn(t, 3, "fail open"),
			TimeZone: pick(t, []string{"", "Asia/Tokyo", "America/New_York"}, "zone"),
		}}
		if oneIn(t, 4, "default") {
			b.Settings.DefaultDecision = governancev1.Decision(rapid.IntRange(1, 4).Draw(t, "decision"))
		}
		for i := range rapid.IntRange(1, 4).Draw(t, "policies") {
			p := &policyv1.Policy{
				PolicyId: fmt.Sprint("p", i), Priority: int32(rapid.IntRange(-1, 1).Draw(t, "priority")),
				Enforcement: policyv1.EnforcementLevel(rapid.IntRange(0, 4).Draw(t, "level")),
				FailureMode: policyv1.FailureMode(rapid.IntRange(0, 2).Draw(t, "failure mode")),
			}
			if oneIn(t, 3, "scoped") {
				p.Scope = scopes(t)
			}
			if oneIn(t, 5, "from") {
				p.EffectiveAt = timestamppb.New(moments[rapid.IntRange(0, 2).Draw(t, "at")])
			}
			if oneIn(t, 5, "until") {
				p.ExpiresAt = timestamppb.New(moments[rapid.IntRange(0, 2).Draw(t, "at")])
			}
			for j := range rapid.IntRange(0, 4).Draw(t, "rules") {
				p.Rules = append(p.Rules, ruleOf(t, fmt.Sprintf("r%d.%d", i, j)))
			}
			b.Policies = append(b.Policies, p)
		}
		return b
	})
}

var moments = []time.Time{
	time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC), time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC), time.Date(2026, 11, 22, 23, 30, 0, 0, time.UTC),
}

func scopes(t *rapid.T) *policyv1.PolicyScope {
	s := &policyv1.PolicyScope{ApplyToAll: oneIn(t, 6, "everywhere")}
	for _, list := range []struct {
		into *[]string
		from []string
	}{{&s.WorkflowIds, words[:2]}, {&s.Roles, roles}, {&s.ModelIds, models}, {&s.ToolNames, tools}, {&s.AgentIds, words[:2]}, {&s.Teams, words[:2]}} {
		if oneIn(t, 5, "list") {
			*list.into = rapid.SliceOfN(rapid.SampledFrom(list.from), 1, 2).Draw(t, "entries")
		}
	}
	if oneIn(t, 4, "phases") {
		s.Phases = []policyv1.ExecutionPhase{policyv1.ExecutionPhase(rapid.IntRange(1, 6).Draw(t, "phase"))}
	}
	return s
}

func ruleOf(t *rapid.T, id string) *policyv1.PolicyRule {
	r := &policyv1.PolicyRule{RuleId: id, Enabled: !oneIn(t, 8, "disabled"), Priority: int32(rapid.IntRange(0, 2).Draw(t, "priority"))}
	for range rapid.IntRange(0, 3).Draw(t, "conditions") {
		r.Conditions = append(r.Conditions, conditionOf(t, 0))
	}
	for range rapid.IntRange(0, 2).Draw(t, "actions") {
		a := &policyv1.PolicyAction{
			ActionType: policyv1.ActionType(rapid.IntRange(1, 9).Draw(t, "action")), Terminal: oneIn(t, 6, "terminal"),
		}
		if a.ActionType == policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL {
			a.Parameters = map[string]string{"quorum": fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "quorum")), "roles": id + ", x", "ttl_seconds": "60"}
		}
		r.Actions = append(r.Actions, a)
	}
	return r
}

func conditionOf(t *rapid.T, depth int) *policyv1.PolicyCondition {
	c := &policyv1.PolicyCondition{Negate: oneIn(t, 4, "negate")}
	if depth < 3 && oneIn(t, 4, "logical") {
		c.ConditionType = policyv1.ConditionType(rapid.SampledFrom([]int{0, 8}).Draw(t, "type"))
		c.LogicalOperator = policyv1.LogicalOperator(rapid.IntRange(1, 3).Draw(t, "operator"))
		for range rapid.IntRange(1, 3).Draw(t, "nested") {
			c.NestedConditions = append(c.NestedConditions, conditionOf(t, depth+1))
		}
		return c
	}
	f := rapid.SampledFrom(catalogue).Draw(t, "field")
	c.Field = f.name
	if oneIn(t, 25, "backend") {
		c.ConditionType = policyv1.ConditionType(rapid.IntRange(10, 11).Draw(t, "type"))
		return c
	}
	if oneIn(t, 5, "spike") {
		spikeCondition(t, c)
		return c
	}
	kinds := f.kinds
	kind := rapid.SampledFrom(kinds).Draw(t, "kind")
	if kind == "list" {
		listCondition(t, c)
		return c
	}
	compareWith(t, c, kind, f.values)
	return c
}

// catalogue is fields, what they can be compared with, and words they may have.
var catalogue = []struct {
	name   string
	kinds  []string
	values []string
}{
	{"tool.name", []string{"text"}, tools},
	{"tool.names", []string{"list"}, tools},
	{"user.role", []string{"list"}, roles},
	{"user.roles", []string{"list"}, roles},
	{"model.id", []string{"text"}, models},
	{"agent.id", []string{"text"}, words[:2]},
	{"workflow.id", []string{"text"}, words[:2]},
	{"input.text", []string{"text"}, words},
	{"output.text", []string{"text"}, words},
	{"action.kind", []string{"text"}, []string{"TOOL_CALL", "LLM_CALL", "OTHER"}},
	{"action.name", []string{"text"}, tools},
	{"action.resource", []string{"text"}, words[:4]},
	{"phase.type", []string{"text"}, []string{"PRE_TOOL_CALL", "PRE_LLM_CALL", "POST_LLM_CALL"}},
	{"attribute.k", []string{"text", "number", "boolean", "mixed"}, []string{"a", "1", "2.5", "true"}},
	{"attribute.x.y", []string{"text", "number", "boolean"}, words},
	{"attribute.x.l[]", []string{"list"}, words},
	{"action.args.v", []string{"text", "number", "boolean", "mixed"}, words},
	{"action.args.o.p", []string{"text", "number"}, words},
	{"action.args.l[]", []string{"list"}, words},
	{"estimate.cost_usd", []string{"number"}, nil},
	{"estimate.tokens", []string{"number"}, nil},
	{"budget.b 1.used_percent", []string{"number"}, nil},
	{"budget.b 1.remaining_usd", []string{"number"}, nil},
	{"time.hour", []string{"number"}, nil},
	{"time.weekday", []string{"text"}, []string{"friday", "Sat", "SUNDAY"}},
}

// spiking are fields that spikes are looked for in, and whose values they may keep
// apart; the histories of some are among the facts.
var (
	spiking = []string{"action.args.v", "action.args.o.p", "attribute.k", "attribute.x.y", "estimate.cost_usd", "estimate.tokens"}
	apart   = [][]string{nil, {"agent", "tool"}, {"tool", "agent", "tool"}, {"tenant"}}
)

func spikeCondition(t *rapid.T, c *policyv1.PolicyCondition) {
	c.ConditionType, c.Field = policyv1.ConditionType_CONDITION_TYPE_STATISTICAL_SPIKE, pick(t, spiking, "field")
	if oneIn(t, 2, "estimate") { // most arguments are no numbers
		c.Field = pick(t, spiking[4:], "field")
	}
	c.Operator = policyv1.ConditionOperator(rapid.SampledFrom([]int{0, 1, 3, 4, 10}).Draw(t, "operator"))
	switch rapid.IntRange(0, 3).Draw(t, "form") {
	case 0:
		c.Value = &policyv1.PolicyCondition_IntValue{IntValue: rapid.Int64Range(1, 4).Draw(t, "value")}
	case 1:
		c.Value = &policyv1.PolicyCondition_FloatValue{FloatValue: rapid.SampledFrom([]float64{0.5, 2.5}).Draw(t, "value")}
	case 2:
		c.Values = []string{pick(t, []string{"1", "2.5", "4"}, "value")}
	}
	if !oneIn(t, 3, "no baseline") {
		c.Spike = &policyv1.SpikeBaseline{By: rapid.SampledFrom(apart).Draw(t, "by"), MinSamples: rapid.Int32Range(0, 3).Draw(t, "min")}
	}
}

// statistics are histories of the fields of policies p0 to p3: a few, dealt out.
func statistics(t *rapid.T) map[string]*policyv1.FieldStatistics {
	few := make([]*policyv1.FieldStatistics, 5) // the last is none
	for i := range few[:4] {
		few[i] = &policyv1.FieldStatistics{
			Samples:   rapid.SampledFrom([]int64{1000, 30, 29, 3, 2, 1, 0}).Draw(t, "samples"),
			Mean:      rapid.SampledFrom([]float64{-3, 0, 0.5, 1, 2.5, 7, 1e21}).Draw(t, "mean"),
			Deviation: rapid.SampledFrom([]float64{0, 0.5, 1, 2.5}).Draw(t, "deviation"),
		}
	}
	out := map[string]*policyv1.FieldStatistics{}
	for i := range 4 {
		for j, name := range spiking {
			for k, by := range []string{"", " by tenant"} {
				if h := few[(i+j+3*k)%len(few)]; h != nil {
					out[fmt.Sprint("p", i, " ", name, by)] = h
				}
			}
		}
	}
	return out
}

func text(s string) *policyv1.PolicyCondition_StringValue {
	return &policyv1.PolicyCondition_StringValue{StringValue: s}
}

func compareWith(t *rapid.T, c *policyv1.PolicyCondition, kind string, values []string) {
	type op = policyv1.ConditionOperator
	field := policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH
	weekday := c.GetField() == "time.weekday"
	switch kind {
	case "boolean":
		c.ConditionType, c.Operator = field, op(rapid.IntRange(0, 2).Draw(t, "operator"))
		c.Value = &policyv1.PolicyCondition_BoolValue{BoolValue: rapid.Bool().Draw(t, "value")}
	case "number":
		switch rapid.IntRange(0, 3).Draw(t, "form") {
		case 0:
			c.ConditionType, c.Operator = policyv1.ConditionType_CONDITION_TYPE_RANGE, op(rapid.SampledFrom([]int{0, 1, 9, 10}).Draw(t, "operator"))
			c.Value = &policyv1.PolicyCondition_ListValue{ListValue: listOf(numberOf(t), numberOf(t))}
		case 1:
			c.ConditionType, c.Operator = policyv1.ConditionType_CONDITION_TYPE_IN_LIST, op(rapid.SampledFrom([]int{0, 9, 10}).Draw(t, "operator"))
			c.Value = &policyv1.PolicyCondition_ListValue{ListValue: listOf(numberOf(t), numberOf(t), numberOf(t))}
		case 2:
			c.ConditionType, c.Operator = field, op(rapid.IntRange(0, 6).Draw(t, "operator"))
			c.Value = &policyv1.PolicyCondition_IntValue{IntValue: rapid.Int64Range(-1, 12).Draw(t, "value")}
		default:
			c.ConditionType, c.Operator = field, op(rapid.IntRange(1, 6).Draw(t, "operator"))
			c.Value = &policyv1.PolicyCondition_FloatValue{FloatValue: rapid.SampledFrom([]float64{0, 0.5, 1, 2.5, 1e21, -3}).Draw(t, "value")}
		}
	case "mixed":
		c.ConditionType, c.Operator = field, op(rapid.SampledFrom([]int{9, 10}).Draw(t, "operator"))
		c.Value = &policyv1.PolicyCondition_ListValue{ListValue: listOf(numberOf(t), structpb.NewStringValue(pick(t, values, "value")), structpb.NewBoolValue(true))}
	default:
		form := rapid.IntRange(0, 8).Draw(t, "form")
		if weekday && form > 2 {
			form = 0
		}
		switch form {
		case 0:
			c.ConditionType, c.Operator = field, op(rapid.IntRange(0, 2).Draw(t, "operator"))
			c.Value = text(pick(t, values, "value"))
		case 1:
			c.ConditionType, c.Operator = policyv1.ConditionType_CONDITION_TYPE_IN_LIST, op(rapid.SampledFrom([]int{0, 9, 10}).Draw(t, "operator"))
			c.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, "values")
		case 2:
			c.ConditionType, c.Operator = field, op(rapid.SampledFrom([]int{9, 10}).Draw(t, "operator"))
			c.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, "values")
		case 3:
			c.ConditionType, c.Operator = field, op(rapid.IntRange(3, 6).Draw(t, "operator"))
			c.Value = text(pick(t, values, "value"))
		case 4:
			c.ConditionType, c.Value = policyv1.ConditionType_CONDITION_TYPE_REGEX, text(pick(t, patterns, "pattern"))
		case 5:
			c.ConditionType, c.Values = policyv1.ConditionType_CONDITION_TYPE_REGEX, rapid.SliceOfN(rapid.SampledFrom(patterns), 1, 2).Draw(t, "patterns")
		case 6:
			c.ConditionType = policyv1.ConditionType_CONDITION_TYPE_CONTAINS
			c.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, "values")
		case 7:
			c.ConditionType = policyv1.ConditionType(rapid.IntRange(5, 7).Draw(t, "type"))
			c.Value = text(pick(t, values, "value"))
		default:
			c.ConditionType = policyv1.ConditionType(rapid.IntRange(6, 7).Draw(t, "type"))
			c.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, "values")
		}
	}
}

var patterns = []string{"^a", "b$", "^$", "(?i)A", "[0-9]", `\w{3}`}

func listCondition(t *rapid.T, c *policyv1.PolicyCondition) {
	all := append(append([]string{}, roles...), tools...)
	all = append(all, words...)
	switch rapid.IntRange(0, 3).Draw(t, "form") {
	case 0:
		c.ConditionType, c.Operator = policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH, policyv1.ConditionOperator(rapid.IntRange(1, 2).Draw(t, "operator"))
		c.Value = text(pick(t, all, "value"))
	case 1:
		c.ConditionType = policyv1.ConditionType_CONDITION_TYPE_IN_LIST
		c.Operator = policyv1.ConditionOperator(rapid.SampledFrom([]int{0, 9, 10}).Draw(t, "operator"))
		c.Values = rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, "values")
	case 2:
		c.ConditionType, c.Value = policyv1.ConditionType_CONDITION_TYPE_CONTAINS, text(pick(t, all, "value"))
	default:
		c.ConditionType = rapid.SampledFrom([]policyv1.ConditionType{2, 6, 7}).Draw(t, "type")
		c.Values = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "s", "o"}), 1, 2).Draw(t, "values")
	}
}

func numberOf(t *rapid.T) *structpb.Value {
	return structpb.NewNumberValue(rapid.SampledFrom([]float64{-3, 0, 0.5, 1, 2.5, 7, 12, 1e21}).Draw(t, "number"))
}

func listOf(vs ...*structpb.Value) *structpb.ListValue { return &structpb.ListValue{Values: vs} }

// anything is a JSON value as callers send them.
func anything(t *rapid.T) *structpb.Value {
	switch rapid.IntRange(0, 5).Draw(t, "json") {
	case 0:
		return numberOf(t)
	case 1:
		return structpb.NewBoolValue(rapid.Bool().Draw(t, "bool"))
	case 2:
		return structpb.NewNullValue()
	case 3:
		return structpb.NewListValue(listOf(structpb.NewStringValue(pick(t, words, "word")), numberOf(t)))
	case 4:
		return structpb.NewListValue(listOf(structpb.NewStringValue(pick(t, words, "word")), structpb.NewStringValue("b")))
	}
	return structpb.NewStringValue(pick(t, words, "word"))
}

func object(t *rapid.T, keys ...string) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for _, k := range keys {
		if !oneIn(t, 3, "absent") {
			s.Fields[k] = anything(t)
		}
	}
	return s
}

func facts() *rapid.Generator[*policyenginev1.Facts] {
	return rapid.Custom(func(t *rapid.T) *policyenginev1.Facts {
		f := &policyenginev1.Facts{Phase: policyv1.ExecutionPhase(rapid.IntRange(0, 6).Draw(t, "phase"))}
		maybe := func(into *string, from []string) {
			if !oneIn(t, 4, "absent") {
				*into = pick(t, from, "word")
			}
		}
		maybe(&f.WorkflowId, words)
		maybe(&f.AgentId, words)
		maybe(&f.AgentTeam, words)
		maybe(&f.ModelId, models)
		if !oneIn(t, 3, "no roles") {
			f.UserRoles = rapid.SliceOfN(rapid.SampledFrom(roles), 1, 2).Draw(t, "roles")
		}
		if oneIn(t, 3, "tools") {
			f.ToolNames = rapid.SliceOfN(rapid.SampledFrom(tools), 1, 3).Draw(t, "tools")
		}
		if !oneIn(t, 3, "no input") {
			f.InputText = proto.String(pick(t, words, "input"))
		}
		if !oneIn(t, 2, "no output") {
			f.OutputText = proto.String(pick(t, words, "output"))
		}
		if !oneIn(t, 3, "no attribute") {
			f.Attributes = map[string]string{"k": pick(t, []string{"a", "1", "2.5", "1e21", "true", "0x10", "-3", "+1", " 1", "Inf", ""}, "k")}
		}
		if !oneIn(t, 3, "no extra") {
			f.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewStructValue(object(t, "y", "l"))}}
		}
		if !oneIn(t, 4, "no action") {
			f.Action = &governancev1.Action{Kind: governancev1.ActionKind(rapid.IntRange(0, 6).Draw(t, "kind"))}
			maybe(&f.Action.Name, tools)
			maybe(&f.Action.Model, models)
			maybe(&f.Action.Resource, words)
			if !oneIn(t, 3, "no arguments") {
				f.Action.Arguments = object(t, "v", "l")
				f.Action.Arguments.Fields["o"] = structpb.NewStructValue(object(t, "p"))
			}
		}
		if !oneIn(t, 3, "no estimate") {
			f.Estimate = &governancev1.Estimate{InputTokens: rapid.Int64Range(0, 6).Draw(t, "in"), MaxOutputTokens: rapid.Int64Range(0, 6).Draw(t, "out"), CostUsd: rapid.SampledFrom([]float64{0, 0.5, 2.5}).Draw(t, "cost")}
		}
		if !oneIn(t, 3, "no budget") {
			f.BudgetUsedPercent = map[string]float64{"b 1": rapid.SampledFrom([]float64{0, 2.5, 12}).Draw(t, "percent")}
		}
		if !oneIn(t, 3, "no money") {
			f.BudgetRemainingUsd = map[string]float64{"b 1": rapid.SampledFrom([]float64{0, 2.5, 7}).Draw(t, "usd")}
		}
		if !oneIn(t, 6, "no statistics") {
			f.Statistics = statistics(t)
		}
		if !oneIn(t, 4, "no time") {
			f.TimeUnixNano = moments[rapid.IntRange(0, 2).Draw(t, "time")].UnixNano()
		}
		if oneIn(t, 6, "allowed tools") {
			f.AllowedTools = tools[:2]
		}
		if oneIn(t, 6, "allowed models") {
			f.AllowedModels = models[:1]
		}
		return f
	})
}
