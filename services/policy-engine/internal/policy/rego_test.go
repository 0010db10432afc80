package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

func module(body string) string { return "package fulcrum.policy\nimport rego.v1\n" + body }

// A policy that would leave the process, outgrow it or see another's is refused
// before it is stored, and the author is told where.
func TestHostilePoliciesAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	doubled := "deny contains x29 if {\n\tx0 := [1, 1]\n"
	for i := 1; i < 30; i++ {
		doubled += fmt.Sprintf("\tx%d := [x%d, x%d]\n", i, i-1, i-1)
	}
	chain := "v0 := [1, 1]\n"
	for i := 1; i < 30; i++ {
		chain += fmt.Sprintf("v%d := [v%d, v%d]\n", i, i-1, i-1)
	}
	calls := "f0(x) := [x, x]\n"
	for i := 1; i < 30; i++ {
		calls += fmt.Sprintf("f%d(x) := f%d(f%d(x))\n", i, i-1, i-1)
	}
	looped := "c0 := [1, 2, 3, 4, 5, 6, 7, 8]\n"
	for i := 1; i < 12; i++ {
		looped += fmt.Sprintf("c%d := [c%d | some _ in c0]\n", i, i-1)
	}
	joined := "s0 := \"0123456789\"\n"
	for i := 1; i < 30; i++ {
		joined += fmt.Sprintf("s%d := concat(\"\", [s%d, s%d])\n", i, i-1, i-1)
	}
	ranged := "deny contains \"x\" if {\n\ta := {[1, 1]}\n\ta[b0]\n"
	for i := 1; i < 30; i++ {
		ranged += fmt.Sprintf("\tb%d := [b%d, b%d]\n", i, i-1, i-1)
	}
	for _, tt := range []struct {
		name, body string
		line       int
		want       string
	}{
		{"http.send", "deny contains \"x\" if http.send({\"method\": \"get\", \"url\": \"http://example.com\"}).status_code == 200", 3, "http.send is not available"},
		{"name lookup", "x := 1\ndeny contains \"x\" if net.lookup_ip_addr(\"example.com\")", 4, "net.lookup_ip_addr is not available"},
		{"runtime", "deny contains opa.runtime().env.HOME", 3, "opa.runtime is not available"},
		{"clock", "deny contains \"x\" if time.now_ns() > 1", 3, "time.now_ns is not available"},
		{"randomness", "deny contains \"x\" if rand.intn(\"x\", 2) == 1", 3, "rand.intn is not available"},
		{"uuid", "deny contains uuid.rfc4122(\"x\")", 3, "uuid.rfc4122 is not available"},
		{"shift", "deny contains \"x\" if bits.lsh(1, 4000000000) > 1", 3, "bits.lsh is not available"},
		{"graph", "deny contains \"x\" if graph.reachable({}, {})", 3, "graph.reachable is not available"},
		{"template", "deny contains strings.render_template(\"\", {})", 3, "strings.render_template is not available"},
		{"schema", "deny contains \"x\" if json.match_schema({}, {})[0]", 3, "json.match_schema is not available"},
		{"signing", "deny contains io.jwt.encode_sign({}, {}, {})", 3, "io.jwt.encode_sign is not available"},
		{"data", "deny contains \"x\" if data.tenants.other.secret", 3, "data is not available"},
		{"bare data", "deny contains \"x\" if count(data) > 0", 3, "data is not available"},
		{"import of data", "import data.other\ndeny contains \"x\"", 3, "import of data.other is not allowed"},
		{"with", "deny contains \"x\" if input.a with input.a as 1", 3, "with is not allowed"},
		{"unification", "deny contains \"x\" if { [a, b] = input.c; a == b }", 3, ":= to assign"},
		{"another package", "\x00package other\ndeny contains \"x\"", 1, "package must be fulcrum.policy"},
		{"a decision that is no set", "deny if input.a", 3, "deny must be a set"},
		{"a default decision", "default allow := true", 3, "allow must be a set"},
		{"no decision", "x := 1", 1, "decides nothing"},
		{"syntax", "deny contains \"x\" if {\n\tinput.a ==\n}", 5, "unexpected"},
		{"an unsafe variable", "deny contains x if input.a", 3, "unsafe"},
		{"recursion", "a if b\nb if a\ndeny contains \"x\" if a", 3, "recurs"},
		{"deep nesting", "deny contains \"x\" if " + strings.Repeat("[", 3000) + strings.Repeat("]", 3000), 3, "recursion depth"},
		{"a long body", "deny contains \"x\" if {\n" + strings.Repeat("\tinput.a\n", 201) + "}", 4, "at most 200"},
		{"many rules", strings.Repeat("deny contains \"x\" if input.a\n", 1001), 1003, "at most 1000"},
		{"a huge text", "# " + strings.Repeat("x", 256<<10) + "\ndeny contains \"x\"", 0, "at most 262144"},
		{"values doubled in a body", doubled + "}", 3, "can grow to"},
		{"values doubled over rules", chain + "deny contains \"x\" if v29 == v29", 0, "can grow to"},
		{"values doubled by functions", calls + "deny contains f29(1)", 0, "can grow to"},
		{"values repeated by comprehensions", looped + "deny contains c11", 0, "can grow to"},
		{"strings doubled", joined + "deny contains s29", 0, "can grow to"},
		{"values drawn from a set and doubled", ranged + "\tb29 == b29\n}", 3, "can grow to"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := module(tt.body)
			if rest, ok := strings.CutPrefix(tt.body, "\x00"); ok {
				text = rest
			}
			began := time.Now()
			problems := policy.NewCompiler(nil).Validate(&policyv1.Policy{Name: "x", Rego: text})
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %v to refuse", took)
			}
			for _, p := range problems {
				if !p.Warning && strings.Contains(p.Message, tt.want) && (tt.line == 0 || p.Line == tt.line) && (p.Line == 0 || p.Column > 0) {
					return
				}
			}
			t.Errorf("no error %q at line %d: %v", tt.want, tt.line, problems)
		})
	}
}

// What does compile and does not end is stopped at its deadline, and denies.
func TestEndlessPoliciesEndAtTheirDeadline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body string }{
		{"cross product", "deny contains \"x\" if {\n\tns := numbers.range(1, 3000)\n\tsome a in ns\n\tsome b in ns\n\tsome c in ns\n\ta + b + c == -1\n}"},
		{"growing comprehension", "deny contains \"x\" if {\n\tns := numbers.range(1, 5000)\n\tcount([a | some a in ns; some b in ns; a * b > 0]) == 0\n}"},
		{"a billion numbers", "deny contains \"x\" if count(numbers.range(1, 1000000000)) == 0"},
		{"tree of calls", callTree(30)},
		{"hashing", "deny contains \"x\" if {\n\tsome i in numbers.range(1, 10000000)\n\tcrypto.sha256(sprintf(\"%d\", [i])) == \"\"\n}"},
		{"string grown past its guard", "deny contains \"x\" if {\n\ts := sprintf(\"%v\", [numbers.range(1, 100000)])\n\tcount(split(s, \" \")) == 0\n}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := policy.NewCompiler(nil).Compile("t", regoBundle(module(tt.body)))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			got, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
			if err != nil {
				t.Fatal(err)
			}
			// 20 ms, tried twice, and 50 ms of grace; the race detector costs more.
			if took := time.Since(began); took > grace(90*time.Millisecond) {
				t.Errorf("took %v", took)
			}
			if r := got.GetResults()[0]; got.GetDecision() != governancev1.Decision_DECISION_DENY ||
				r.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED {
				t.Errorf("answer: %v", got)
			}
		})
	}
}

// callTree is a tree of 2^n calls that build nothing.
func callTree(n int) string {
	var b strings.Builder
	b.WriteString("g0(x) if x == -1\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "g%d(x) if g%d(x + 1)\ng%d(x) if g%d(x + 2)\n", i, i-1, i, i-1)
	}
	fmt.Fprintf(&b, "deny contains \"x\" if g%d(1)\n", n-1)
	return b.String()
}

func regoBundle(text string) *configv1.PolicyBundle {
	return &configv1.PolicyBundle{TenantId: "t", Version: 1, Policies: []*policyv1.Policy{{PolicyId: "p", Rego: text}}}
}

// A policy that keeps running into its deadline is not run for a while; its
// failure mode still decides.
func TestRepeatedTimeoutsAreQuarantined(t *testing.T) {
	t.Parallel()
	set, err := policy.NewCompiler(nil).Compile("t", regoBundle(module("deny contains \"x\" if count(numbers.range(1, 1000000000)) == 0")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		began := time.Now()
		got, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
		if err != nil || got.GetDecision() != governancev1.Decision_DECISION_DENY {
			t.Fatal(got, err)
		}
		if why := got.GetResults()[0].GetError(); strings.Contains(why, "quarantined") {
			if i != 3 {
				t.Errorf("quarantined after %d timeouts", i)
			}
			if took := time.Since(began); took > grace(10*time.Millisecond) {
				t.Errorf("a quarantined policy took %v", took)
			}
			return
		}
	}
	t.Error("never quarantined")
}

// Long texts, deep and large arguments: the answer is still in time, and never a
// silent allow.
func TestHostileFactsAreBounded(t *testing.T) {
	t.Parallel()
	deep := structpb.NewStringValue("x")
	for range 5000 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	wide := make([]*structpb.Value, 50_000)
	for i := range wide {
		wide[i] = structpb.NewNumberValue(float64(i))
	}
	regex := &configv1.PolicyBundle{TenantId: "t", Version: 1}
	for i := range 10 {
		regex.Policies = append(regex.Policies, &policyv1.Policy{PolicyId: fmt.Sprint("p", i), Rules: []*policyv1.PolicyRule{{
			RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_WARN}},
			Conditions: []*policyv1.PolicyCondition{{ConditionType: policyv1.ConditionType_CONDITION_TYPE_REGEX, Field: "input.text", Value: text(fmt.Sprintf(`(?i)(a+)+[x-z]{1,100}%d$`, i))}},
		}}})
	}
	rego := regoBundle(module("deny contains \"x\" if input.action.args.v == 1"))
	for _, tt := range []struct {
		name   string
		bundle *configv1.PolicyBundle
		change func(*policyenginev1.Facts)
		allow  bool
	}{
		{"a megabyte under ten expressions", regex, func(f *policyenginev1.Facts) { *f.InputText = strings.Repeat("a", 1<<20) }, false},
		{"more than a megabyte", regex, func(f *policyenginev1.Facts) { *f.InputText = strings.Repeat("a", 1<<20+1) }, false},
		{"deep arguments", rego, func(f *policyenginev1.Facts) { f.Action.Arguments.Fields["v"] = deep }, false},
		{"wide arguments", rego, func(f *policyenginev1.Facts) {
			f.Action.Arguments.Fields["v"] = structpb.NewListValue(&structpb.ListValue{Values: wide})
		}, false},
		{"a number that is not finite", rego, func(f *policyenginev1.Facts) {
			f.Action.Arguments.Fields["v"] = &structpb.Value{Kind: &structpb.Value_NumberValue{NumberValue: nan()}}
		}, false},
		{"an ordinary call", rego, func(*policyenginev1.Facts) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := policy.NewCompiler(nil).Compile("t", tt.bundle)
			if err != nil {
				t.Fatal(err)
			}
			f := workload.Call()
			tt.change(f)
			began := time.Now()
			got, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > grace(500*time.Millisecond) {
				t.Errorf("took %v", took)
			}
			if allowed := got.GetDecision() == governancev1.Decision_DECISION_ALLOW; allowed != tt.allow {
				t.Errorf("answer: %v", got.GetDecision())
			}
		})
	}
}

func nan() float64 { var zero float64; return zero / zero }

// Each policy's own time is in its result, and the whole in the answer.
func TestAnAnswerSaysHowLongEachPolicyTook(t *testing.T) {
	t.Parallel()
	b := regoBundle(module("deny contains \"x\" if {\n\tsome a in numbers.range(1, 5000)\n\tsome b in numbers.range(1, 5000)\n\ta * b == -1\n}"))
	b.Policies = append(b.Policies, &policyv1.Policy{PolicyId: "quick"})
	set, err := policy.NewCompiler(nil).Compile("t", b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
	if err != nil {
		t.Fatal(err)
	}
	endless, quick := got.GetResults()[0], got.GetResults()[1]
	if endless.GetDurationUs() < 20_000 || quick.GetDurationUs() >= endless.GetDurationUs() || got.GetEvaluatedUs() < endless.GetDurationUs() {
		t.Errorf("took %d and %d µs of %d", endless.GetDurationUs(), quick.GetDurationUs(), got.GetEvaluatedUs())
	}
}

// Agents see reasons. When a policy fails they learn that, and nothing of its
// text nor of what the facts hold; its owner sees both in the policy's result.
func TestNoReasonTellsOfThePolicyOrTheFacts(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`deny contains "x" if fulcrum.num(input, "action.args.salary_of_ada") > 1`,
		`deny contains "x" if fulcrum.num(input, "action.args.to") > 1`,
		`deny contains "x" if 1 / to_number(input.action.args.subject) > 1`,
		`deny contains {"message": "x", "salary_of_ada": {"deep": input.action.args.to}}`,
	} {
		got := evaluateUnhurried(t, regoBundle(module(body)), policy.Request{Facts: workload.Call()})
		if len(got.GetReasons()) != 1 || got.GetReasons()[0].GetMessage() != "the policy could not be evaluated; its failure mode is DENY" {
			t.Errorf("%s: agents are told %v", body, got.GetReasons())
		}
		if why := got.GetResults()[0].GetError(); why == "" {
			t.Errorf("%s: the owner is told nothing", body)
		}
	}
}

// Undefined is where policies fail open. For every kind of comparison, and every
// way an argument can be missing or of another type, a rule that denies must
// not let the call pass in silence.
func TestNoMissingOrMistypedFactPassesInSilence(t *testing.T) {
	t.Parallel()
	values := map[string]*structpb.Value{
		"null": structpb.NewNullValue(), "boolean": structpb.NewBoolValue(true), "number": structpb.NewNumberValue(5000),
		"string": structpb.NewStringValue("DROP TABLE users"), "array": structpb.NewListValue(listOf(structpb.NewStringValue("DROP TABLE users"))),
		"object":  structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewNumberValue(5000)}}),
		"missing": nil,
	}
	number := &policyv1.PolicyCondition_IntValue{IntValue: 1000}
	for name, c := range map[string]*policyv1.PolicyCondition{
		"number":  {ConditionType: 1, Operator: 3, Value: number},
		"number<": {ConditionType: 1, Operator: 4, Value: number},
		"number=": {ConditionType: 1, Operator: 1, Value: &policyv1.PolicyCondition_IntValue{IntValue: 5000}},
		"number≠": {ConditionType: 1, Operator: 2, Value: number},
		"range":   {ConditionType: 3, Value: &policyv1.PolicyCondition_ListValue{ListValue: listOf(structpb.NewNumberValue(0), structpb.NewNumberValue(9999))}},
		"string":  {ConditionType: 1, Operator: 1, Value: text("DROP TABLE users")},
		"in":      {ConditionType: 4, Values: []string{"DROP TABLE users", "x"}},
		"not in":  {ConditionType: 4, Operator: 10, Values: []string{"SELECT 1"}},
		"regex":   {ConditionType: 2, Value: text("(?i)drop")},
		"find":    {ConditionType: 5, Value: text("DROP")},
		"prefix":  {ConditionType: 6, Value: text("DROP")},
		"suffix":  {ConditionType: 7, Value: text("users")},
		"boolean": {ConditionType: 1, Operator: 1, Value: &policyv1.PolicyCondition_BoolValue{BoolValue: true}},
		"list":    {ConditionType: 5, Field: "action.args.v[]", Value: text("DROP TABLE users")},
	} {
		if c.Field == "" {
			c.Field = "action.args.v"
		}
		for kind, v := range values {
			t.Run(name+" with "+kind, func(t *testing.T) {
				f := workload.Call()
				f.Action.Arguments.Fields["v"] = v
				if v == nil {
					delete(f.Action.Arguments.Fields, "v")
				}
				b := workload.Bundle("t", 1, []*policyv1.PolicyRule{{RuleId: "r", Enabled: true, Conditions: []*policyv1.PolicyCondition{c}, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}}}})
				set, err := policy.NewCompiler(nil).Compile("t", b)
				if err != nil {
					t.Fatal(err)
				}
				got, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
				if err != nil {
					t.Fatal(err)
				}
				// 5000 is over, and not under, the limit: that is an answer.
				if passes := name == "number<" && kind == "number"; (got.GetDecision() == governancev1.Decision_DECISION_ALLOW) != passes {
					t.Errorf("answer %v, %v", got.GetDecision(), got.GetResults()[0].GetError())
				}
			})
		}
	}
}

// Authors hear of arguments used bare, because a missing one makes a Rego rule
// silent.
func TestBareArgumentsAreWarnedOf(t *testing.T) {
	t.Parallel()
	problems := policy.NewCompiler(nil).Validate(&policyv1.Policy{FailureMode: 1, Rego: module("deny contains \"x\" if input.action.args.amount > 3")})
	if len(problems) != 1 || !problems[0].Warning || problems[0].Line != 3 || !strings.Contains(problems[0].Message, "fulcrum.num") {
		t.Errorf("problems: %v", problems)
	}
	problems = policy.NewCompiler(nil).Validate(&policyv1.Policy{FailureMode: 1, Rego: module("deny contains \"x\" if fulcrum.num(input, \"action.args.amount\") > 3")})
	if len(problems) != 0 {
		t.Errorf("problems: %v", problems)
	}
}
