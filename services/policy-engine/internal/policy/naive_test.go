package policy_test

import (
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// The naive evaluator states what structured policies mean, in plain Go and as
// literally as possible: it walks the conditions as they are written, knows
// nothing of OPA, and is slow. It shares no code with the engine.

// tri is a truth: false, unknown, true.
type tri int

const (
	isFalse tri = iota
	isUnknown
	isTrue
	// isNothing is a comparison with what cannot exist, such as the tool of an
	// LLM call. It is not true, and its opposite is not true either.
	isNothing
)

func not(t tri) tri {
	switch t {
	case isTrue:
		return isFalse
	case isFalse:
		return isTrue
	}
	return t
}

// both is AND: anything not true prevails over true, and what is known not to
// hold prevails over what is unknown.
func both(a, b tri) tri {
	switch {
	case a == isNothing || a == isFalse:
		return a
	case b == isNothing || b == isFalse:
		return b
	}
	return min(a, b)
}

func either(a, b tri) tri {
	switch {
	case a == isTrue || b == isTrue:
		return isTrue
	case a == isUnknown || b == isUnknown:
		return isUnknown
	case a == isNothing && b == isNothing:
		return isNothing
	}
	return isFalse
}

type naiveResult struct {
	Decision  governancev1.Decision
	Defaulted bool
	Terminate bool
	Policies  []naivePolicy
	Quorum    int32
	Roles     []string
	TTL       int64
	Duties    []string
}

type naivePolicy struct {
	ID       string
	Outcome  string
	Decision governancev1.Decision
	Rules    []string
}

func naive(b *configv1.PolicyBundle, r policy.Request) naiveResult {
	policies := slices.Clone(b.GetPolicies())
	sort.SliceStable(policies, func(i, j int) bool {
		if policies[i].GetPriority() != policies[j].GetPriority() {
			return policies[i].GetPriority() > policies[j].GetPriority()
		}
		return policies[i].GetPolicyId() < policies[j].GetPolicyId()
	})
	n := &naiveRun{f: r.Facts, zone: time.UTC, tenant: b.GetTenantId()}
	if z, err := time.LoadLocation(b.GetSettings().GetTimeZone()); err == nil {
		n.zone = z
	}
	n.prepare()

	out := naiveResult{}
	denied := false
	if bad := n.envelope(); bad > 0 {
		for range bad {
			out.Policies = append(out.Policies, naivePolicy{ID: "envelope", Outcome: "EVALUATED", Decision: governancev1.Decision_DECISION_DENY})
		}
		out.Decision, denied = governancev1.Decision_DECISION_DENY, true
	}
	var asks []*policyv1.PolicyAction
	for _, p := range policies {
		if s := p.GetStatus(); s != 0 && s != policyv1.PolicyStatus_POLICY_STATUS_ACTIVE {
			continue
		}
		if len(r.Only) > 0 && !slices.Contains(r.Only, p.GetPolicyId()) {
			continue
		}
		one := naivePolicy{ID: p.GetPolicyId()}
		n.policy = p.GetPolicyId()
		window := n.window(p)
		if !n.scope(p.GetScope()) || window == isFalse || denied && r.StopOnDeny {
			one.Outcome = "SKIPPED"
			out.Policies = append(out.Policies, one)
			continue
		}
		var decision governancev1.Decision
		var duties []string
		var myAsks []*policyv1.PolicyAction
		failed := window == isUnknown
		if !failed {
			for _, rule := range inPriority(p.GetRules()) {
				switch n.rule(rule) {
				case isUnknown:
					failed = true
					continue
				case isTrue:
				default:
					continue
				}
				one.Rules = append(one.Rules, rule.GetRuleId())
				stop := false
				for _, a := range rule.GetActions() {
					stop = stop || a.GetTerminal()
					switch a.GetActionType() {
					case policyv1.ActionType_ACTION_TYPE_DENY:
						decision = max(decision, governancev1.Decision_DECISION_DENY)
					case policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL:
						decision = max(decision, governancev1.Decision_DECISION_REQUIRE_APPROVAL)
						myAsks = append(myAsks, a)
					case policyv1.ActionType_ACTION_TYPE_WARN:
						decision = max(decision, governancev1.Decision_DECISION_WARN)
					case policyv1.ActionType_ACTION_TYPE_ALLOW:
						decision = max(decision, governancev1.Decision_DECISION_ALLOW)
					default:
						duties = append(duties, strings.TrimPrefix(a.GetActionType().String(), "ACTION_TYPE_"))
					}
				}
				if stop {
					break
				}
			}
		}
		terminate := p.GetEnforcement() == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_TERMINATE && decision == governancev1.Decision_DECISION_DENY
		one.Outcome = "EVALUATED"
		counts := decision
		if failed {
			one.Outcome = "FAILED"
			open := b.GetSettings().GetFailOpen()
			switch p.GetFailureMode() {
			case policyv1.FailureMode_FAILURE_MODE_ALLOW:
				open = true
			case policyv1.FailureMode_FAILURE_MODE_DENY:
				open = false
			}
			if open {
				decision = max(decision, governancev1.Decision_DECISION_ALLOW)
			} else {
				decision, counts = governancev1.Decision_DECISION_DENY, governancev1.Decision_DECISION_DENY
			}
		}
		if p.GetEnforcement() == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_WARN {
			decision = min(decision, governancev1.Decision_DECISION_WARN)
			counts = min(counts, governancev1.Decision_DECISION_WARN)
		}
		one.Decision = decision
		if p.GetEnforcement() == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_AUDIT {
			one.Outcome = "SHADOW"
			out.Policies = append(out.Policies, one)
			continue
		}
		out.Policies = append(out.Policies, one)
		out.Decision = max(out.Decision, counts)
		out.Terminate = out.Terminate || terminate
		denied = denied || counts == governancev1.Decision_DECISION_DENY
		asks = append(asks, myAsks...)
		out.Duties = append(out.Duties, duties...)
	}
	if out.Decision == 0 {
		out.Defaulted = true
		if out.Decision = b.GetSettings().GetDefaultDecision(); out.Decision == 0 {
			out.Decision = governancev1.Decision_DECISION_ALLOW
		}
	}
	if out.Decision == governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		out.Quorum = 1
		best := int32(0)
		for _, a := range asks {
			q := int32(1)
			if n, err := strconv.Atoi(a.GetParameters()["quorum"]); err == nil {
				q = int32(n)
			}
			if q <= best {
				continue
			}
			best, out.Quorum, out.Roles = q, q, nil
			for _, role := range strings.Split(a.GetParameters()["roles"], ",") {
				if role = strings.TrimSpace(role); role != "" {
					out.Roles = append(out.Roles, role)
				}
			}
			out.TTL, _ = strconv.ParseInt(a.GetParameters()["ttl_seconds"], 10, 64)
		}
	}
	return out
}

func inPriority(rules []*policyv1.PolicyRule) (out []*policyv1.PolicyRule) {
	for _, r := range rules {
		if r.GetEnabled() {
			out = append(out, r)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].GetPriority() > out[j].GetPriority() })
	return out
}

type naiveRun struct {
	f      *policyenginev1.Facts
	zone   *time.Location
	tenant string
	phase  string
	model  string
	tools  []string
	tool   string // the one that is being judged
	policy string // the id of that which judges
}

func (n *naiveRun) prepare() {
	a := n.f.GetAction()
	n.phase = strings.TrimPrefix(n.f.GetPhase().String(), "EXECUTION_PHASE_")
	llm := a.GetKind() == governancev1.ActionKind_ACTION_KIND_LLM_CALL
	if n.phase == "UNSPECIFIED" && a != nil {
		n.phase = "PRE_TOOL_CALL"
		if llm {
			n.phase = "PRE_LLM_CALL"
		}
	}
	n.model = n.f.GetModelId()
	if n.model == "" {
		n.model = a.GetModel()
	}
	if n.model == "" && llm {
		n.model = a.GetName()
	}
	n.tools = n.f.GetToolNames()
	if len(n.tools) == 0 && a.GetName() != "" && !llm {
		n.tools = []string{a.GetName()}
	}
}

func (n *naiveRun) envelope() (bad int) {
	if allowed := n.f.GetAllowedTools(); len(allowed) > 0 && !n.impossible("tool.name") {
		outside := len(n.tools) == 0
		for _, t := range n.tools {
			outside = outside || !slices.Contains(allowed, t)
		}
		if outside {
			bad++
		}
	}
	if allowed := n.f.GetAllowedModels(); len(allowed) > 0 && (n.model != "" || !n.impossible("model.id")) && !slices.Contains(allowed, n.model) {
		bad++
	}
	return bad
}

func (n *naiveRun) window(p *policyv1.Policy) tri {
	if p.GetEffectiveAt() == nil && p.GetExpiresAt() == nil {
		return isTrue
	}
	if n.f.GetTimeUnixNano() == 0 {
		return isUnknown
	}
	now := time.Unix(0, n.f.GetTimeUnixNano())
	if at := p.GetEffectiveAt(); at != nil && now.Before(at.AsTime()) {
		return isFalse
	}
	if at := p.GetExpiresAt(); at != nil && !now.Before(at.AsTime()) {
		return isFalse
	}
	return isTrue
}

func (n *naiveRun) scope(s *policyv1.PolicyScope) bool {
	if s == nil || s.GetApplyToAll() {
		return true
	}
	has := func(list []string, facts ...string) bool {
		if len(list) == 0 {
			return true
		}
		for _, f := range facts {
			if f != "" && slices.Contains(list, f) {
				return true
			}
		}
		return false
	}
	var phases []string
	for _, p := range s.GetPhases() {
		phases = append(phases, strings.TrimPrefix(p.String(), "EXECUTION_PHASE_"))
	}
	known := n.phase
	if known == "UNSPECIFIED" {
		known = ""
	}
	return has(s.GetWorkflowIds(), n.f.GetWorkflowId()) && has(phases, known) && has(s.GetRoles(), n.f.GetUserRoles()...) &&
		has(s.GetModelIds(), n.model) && has(s.GetToolNames(), n.tools...) &&
		has(s.GetAgentIds(), n.f.GetAgentId()) && has(s.GetTeams(), n.f.GetAgentTeam())
}

// rule judges a rule once for each tool, if it asks for the tool, and keeps the
// strongest truth.
func (n *naiveRun) rule(r *policyv1.PolicyRule) tri {
	tools := n.tools
	if len(tools) == 0 {
		tools = []string{""}
	}
	best := isFalse
	for _, tool := range tools {
		n.tool = tool
		t := isTrue
		for _, c := range r.GetConditions() {
			t = both(t, n.condition(c, false))
		}
		if t == isTrue || t == isUnknown && best == isFalse {
			best = t
		}
	}
	return best
}

// condition judges c, or its opposite: the opposite is pushed down to the
// comparisons, so that a comparison with nothing holds neither way.
func (n *naiveRun) condition(c *policyv1.PolicyCondition, opposite bool) tri {
	if c.GetNegate() {
		opposite = !opposite
	}
	kind := c.GetConditionType()
	if kind == 0 && len(c.GetNestedConditions()) > 0 {
		kind = policyv1.ConditionType_CONDITION_TYPE_LOGICAL
	}
	if kind != policyv1.ConditionType_CONDITION_TYPE_LOGICAL {
		t := n.compare(c)
		if opposite {
			return not(t)
		}
		return t
	}
	op := c.GetLogicalOperator()
	if op == policyv1.LogicalOperator_LOGICAL_OPERATOR_NOT {
		opposite = !opposite
		op = policyv1.LogicalOperator_LOGICAL_OPERATOR_OR
	}
	and := op == policyv1.LogicalOperator_LOGICAL_OPERATOR_AND
	if opposite {
		and = !and
	}
	t := isFalse
	if and {
		t = isTrue
	}
	for _, kid := range c.GetNestedConditions() {
		if k := n.condition(kid, opposite); and {
			t = both(t, k)
		} else {
			t = either(t, k)
		}
	}
	return t
}

// impossible is whether a field that was not given cannot be there at all.
func (n *naiveRun) impossible(field string) bool {
	a := n.f.GetAction()
	llmAction := a.GetKind() == governancev1.ActionKind_ACTION_KIND_LLM_CALL
	around := strings.HasSuffix(n.phase, "_EXECUTION") && a == nil
	aboutTool := strings.HasSuffix(n.phase, "TOOL_CALL") || strings.HasSuffix(n.phase, "_EXECUTION") && a != nil && !llmAction ||
		n.phase == "UNSPECIFIED" && len(n.f.GetToolNames()) > 0 && n.f.GetModelId() == ""
	aboutModel := strings.HasSuffix(n.phase, "LLM_CALL") || strings.HasSuffix(n.phase, "_EXECUTION") && llmAction ||
		n.phase == "UNSPECIFIED" && len(n.f.GetToolNames()) == 0 && n.f.GetModelId() != ""
	switch {
	case field == "tool.name", field == "tool.names":
		return around || aboutModel
	case field == "model.id", field == "input.text":
		return around || aboutTool
	case field == "output.text":
		return strings.HasPrefix(n.phase, "PRE_")
	case strings.HasPrefix(field, "action.args."):
		return a.GetArguments() == nil && (around || aboutModel)
	case strings.HasPrefix(field, "action."):
		return around
	case strings.HasPrefix(field, "estimate."):
		return around || strings.HasPrefix(n.phase, "POST_")
	}
	return false
}

// value returns a string, *big.Rat, bool, []any, or nil when there is none. list
// says that the field is one of those that always hold several strings.
func (n *naiveRun) value(field string) (v any, list bool) {
	f := n.f
	str := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	strs := func(ss []string) any {
		if len(ss) == 0 {
			return nil
		}
		var out []any
		for _, s := range ss {
			out = append(out, s)
		}
		return out
	}
	when := time.Unix(0, f.GetTimeUnixNano()).In(n.zone)
	e := f.GetEstimate()
	if strings.HasPrefix(field, "estimate.") && e == nil || strings.HasPrefix(field, "time.") && f.GetTimeUnixNano() == 0 {
		return nil, false
	}
	switch field {
	case "user.id":
		return str(f.GetUserId()), false
	case "user.role", "user.roles":
		return strs(f.GetUserRoles()), true
	case "model.id":
		return str(n.model), false
	case "tool.name":
		return str(n.tool), false
	case "tool.names":
		return strs(n.tools), true
	case "workflow.id":
		return str(f.GetWorkflowId()), false
	case "tenant.id":
		return str(n.tenant), false
	case "envelope.id":
		return str(f.GetEnvelopeId()), false
	case "phase.type":
		if n.phase == "UNSPECIFIED" {
			return nil, false
		}
		return n.phase, false
	case "input.text":
		if f.InputText == nil {
			return nil, false
		}
		return f.GetInputText(), false
	case "output.text":
		if f.OutputText == nil {
			return nil, false
		}
		return f.GetOutputText(), false
	case "agent.id":
		return str(f.GetAgentId()), false
	case "agent.team":
		return str(f.GetAgentTeam()), false
	case "action.kind":
		if f.GetAction().GetKind() == 0 {
			return nil, false
		}
		return strings.TrimPrefix(f.GetAction().GetKind().String(), "ACTION_KIND_"), false
	case "action.name":
		return str(f.GetAction().GetName()), false
	case "action.resource":
		return str(f.GetAction().GetResource()), false
	case "estimate.cost_usd":
		return rat(e.GetCostUsd()), false
	case "estimate.tokens":
		return new(big.Rat).SetInt64(e.GetInputTokens() + e.GetMaxOutputTokens()), false
	case "estimate.input_tokens":
		return new(big.Rat).SetInt64(e.GetInputTokens()), false
	case "estimate.max_output_tokens":
		return new(big.Rat).SetInt64(e.GetMaxOutputTokens()), false
	case "estimate.tool_calls":
		return new(big.Rat).SetInt64(e.GetToolCalls()), false
	case "estimate.seconds":
		return new(big.Rat).SetInt64(e.GetSeconds()), false
	case "time.hour":
		return new(big.Rat).SetInt64(int64(when.Hour())), false
	case "time.weekday":
		return strings.ToLower(when.Weekday().String()), false
	}
	if name, ok := strings.CutPrefix(field, "budget."); ok {
		if name, ok := strings.CutSuffix(name, ".remaining_usd"); ok {
			if usd, ok := f.GetBudgetRemainingUsd()[name]; ok {
				return rat(usd), false
			}
			return nil, false
		}
		if p, ok := f.GetBudgetUsedPercent()[strings.TrimSuffix(name, ".used_percent")]; ok {
			return rat(p), false
		}
		return nil, false
	}
	path, items := strings.CutSuffix(field, "[]")
	var found any
	if key, ok := strings.CutPrefix(path, "action.args."); ok {
		found = dig(f.GetAction().GetArguments(), key)
	} else if key, ok := strings.CutPrefix(path, "attribute."); ok {
		if s, ok := f.GetAttributes()[key]; ok {
			found = wire(s)
		} else {
			found = dig(f.GetExtra(), key)
		}
	}
	if _, isList := found.([]any); isList != items {
		if found == nil {
			return nil, items
		}
		return mismatched{}, items
	}
	return found, items
}

// wire is an attribute: text that may be read as what it is compared with.
type wire string

// mismatched is a value that compares with nothing.
type mismatched struct{}

func rat(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	return r
}

func dig(s *structpb.Struct, path string) any {
	if s == nil {
		return nil
	}
	if v, ok := s.GetFields()[path]; ok {
		return plain(v)
	}
	head, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil
	}
	return dig(s.GetFields()[head].GetStructValue(), rest)
}

func plain(v *structpb.Value) any {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return k.StringValue
	case *structpb.Value_NumberValue:
		return rat(k.NumberValue)
	case *structpb.Value_BoolValue:
		return k.BoolValue
	case *structpb.Value_ListValue:
		out := []any{}
		for _, e := range k.ListValue.GetValues() {
			out = append(out, plain(e))
		}
		return out
	}
	return mismatched{}
}

// operandsOf returns what c compares with, in the form of values.
func operandsOf(c *policyv1.PolicyCondition) (out []any) {
	defer func() {
		for i, a := range out {
			if s, ok := a.(string); ok && (c.GetConditionType() <= 1 || c.GetConditionType() == policyv1.ConditionType_CONDITION_TYPE_IN_LIST) {
				out[i] = canonical(c.GetField(), s)
			}
		}
	}()
	switch v := c.GetValue().(type) {
	case *policyv1.PolicyCondition_StringValue:
		return []any{v.StringValue}
	case *policyv1.PolicyCondition_IntValue:
		return []any{new(big.Rat).SetInt64(v.IntValue)}
	case *policyv1.PolicyCondition_FloatValue:
		return []any{rat(v.FloatValue)}
	case *policyv1.PolicyCondition_BoolValue:
		return []any{v.BoolValue}
	case *policyv1.PolicyCondition_ListValue:
		for _, e := range v.ListValue.GetValues() {
			out = append(out, plain(e))
		}
	}
	for _, s := range c.GetValues() {
		if numeric(c.GetField()) {
			r, _ := new(big.Rat).SetString(s)
			out = append(out, r)
			continue
		}
		out = append(out, s)
	}
	return out
}

// canonical is how facts spell what people spell in several ways.
func canonical(field, s string) string {
	switch field {
	case "phase.type":
		return strings.TrimPrefix(strings.ToUpper(s), "EXECUTION_PHASE_")
	case "action.kind":
		return strings.TrimPrefix(strings.ToUpper(s), "ACTION_KIND_")
	case "time.weekday":
		for d := time.Sunday; d <= time.Saturday; d++ {
			if name := strings.ToLower(d.String()); strings.ToLower(s) == name || strings.ToLower(s) == name[:3] {
				return name
			}
		}
	}
	return s
}

func numeric(field string) bool {
	return strings.HasPrefix(field, "estimate.") || strings.HasPrefix(field, "budget.") || field == "time.hour"
}

func (n *naiveRun) compare(c *policyv1.PolicyCondition) tri {
	kind := c.GetConditionType()
	switch kind {
	case policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL:
		return isUnknown
	}
	v, list := n.value(c.GetField())
	if v == nil {
		if n.impossible(c.GetField()) {
			return isNothing
		}
		return isUnknown
	}
	op := strings.TrimPrefix(c.GetOperator().String(), "CONDITION_OPERATOR_")
	if kind == policyv1.ConditionType_CONDITION_TYPE_STATISTICAL_SPIKE {
		return n.spike(c, op, v)
	}
	args := operandsOf(c)
	switch kind {
	case policyv1.ConditionType_CONDITION_TYPE_REGEX:
		op = "MATCHES"
	case policyv1.ConditionType_CONDITION_TYPE_CONTAINS:
		op = "CONTAINS"
	case policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH:
		op = "PREFIX"
	case policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH:
		op = "SUFFIX"
	case policyv1.ConditionType_CONDITION_TYPE_IN_LIST:
		if op != "NOT_IN" {
			op = "IN"
		}
	case policyv1.ConditionType_CONDITION_TYPE_RANGE:
		switch op {
		case "UNSPECIFIED", "EQUALS", "IN":
			op = "BETWEEN"
		case "NOT_IN":
			op = "OUTSIDE"
		}
	}
	if op == "UNSPECIFIED" {
		op = "EQUALS"
	}
	switch op {
	case "NOT_EQUALS":
		return not(n.apply("EQUALS", v, args, list))
	case "NOT_IN":
		return not(n.apply("IN", v, args, list))
	case "OUTSIDE":
		return not(n.apply("BETWEEN", v, args, list))
	}
	return n.apply(op, v, args, list)
}

// spike is whether v is further from the mean of its history than so many
// standard deviations, of which each counts as a thousandth of the mean at least.
func (n *naiveRun) spike(c *policyv1.PolicyCondition, side string, v any) tri {
	if w, ok := v.(wire); ok {
		v = read(string(w), "GREATER_THAN", []any{new(big.Rat)})
	}
	x, ok := v.(*big.Rat)
	if !ok {
		return isUnknown
	}
	by := slices.Clone(c.GetSpike().GetBy())
	slices.Sort(by)
	key := n.policy + " " + c.GetField()
	if by = slices.Compact(by); len(by) > 0 && !slices.Equal(by, []string{"agent", "tool"}) {
		key += " by " + strings.Join(by, ",")
	}
	h, ok := n.f.GetStatistics()[key]
	if !ok {
		return isUnknown
	}
	mean, isMean := rat(h.GetMean()).(*big.Rat)
	deviation, isDeviation := rat(h.GetDeviation()).(*big.Rat)
	if !isMean || !isDeviation || deviation.Sign() < 0 || h.GetSamples() < 0 {
		return isUnknown
	}
	least := int64(c.GetSpike().GetMinSamples())
	if least == 0 {
		least = 30
	}
	if h.GetSamples() < least {
		return isFalse
	}
	if even := new(big.Rat).Quo(new(big.Rat).Abs(mean), big.NewRat(1000, 1)); deviation.Cmp(even) < 0 {
		deviation = even
	}
	times := big.NewRat(3, 1)
	if values := c.GetValues(); len(values) == 1 {
		times.SetString(values[0])
	} else if args := operandsOf(c); len(args) == 1 {
		times = args[0].(*big.Rat)
	}
	reach := times.Mul(new(big.Rat).Set(times), deviation)
	above := new(big.Rat).Sub(x, mean).Cmp(reach) > 0
	below := new(big.Rat).Sub(mean, x).Cmp(reach) > 0
	if side == "LESS_THAN" && below || side == "NOT_IN" && (above || below) || side != "LESS_THAN" && side != "NOT_IN" && above {
		return isTrue
	}
	return isFalse
}

func (n *naiveRun) apply(op string, v any, args []any, list bool) tri {
	if list {
		elements, ok := v.([]any)
		if !ok {
			return isUnknown
		}
		text := op == "MATCHES" || op == "PREFIX" || op == "SUFFIX"
		best := isFalse
		for _, e := range elements {
			if _, isText := e.(string); text && !isText {
				return isUnknown
			}
		}
		for _, e := range elements {
			on := op
			if op == "IN" || op == "CONTAINS" {
				on = "EQUALS"
			}
			for _, a := range args {
				if reflectEqual(e, a) && on == "EQUALS" || on != "EQUALS" && one(on, e, []any{a}) == isTrue {
					best = isTrue
				}
			}
		}
		return best
	}
	return one(op, v, args)
}

func reflectEqual(a, b any) bool {
	if x, ok := a.(*big.Rat); ok {
		y, ok := b.(*big.Rat)
		return ok && x.Cmp(y) == 0
	}
	return a == b
}

// one compares a single value.
func one(op string, v any, args []any) tri {
	if w, ok := v.(wire); ok {
		return one(op, read(string(w), op, args), args)
	}
	if v == nil {
		return isUnknown
	}
	if _, ok := v.(mismatched); ok {
		return isUnknown
	}
	yes := false
	switch op {
	case "EQUALS", "IN":
		comparable := false
		for _, a := range args {
			comparable = comparable || sameKind(v, a)
			yes = yes || reflectEqual(v, a)
		}
		if !comparable {
			return isUnknown
		}
	case "GREATER_THAN", "LESS_THAN", "GREATER_EQUAL", "LESS_EQUAL":
		if !sameKind(v, args[0]) {
			return isUnknown
		}
		c := order(v, args[0])
		yes = map[string]bool{"GREATER_THAN": c > 0, "LESS_THAN": c < 0, "GREATER_EQUAL": c >= 0, "LESS_EQUAL": c <= 0}[op]
	case "BETWEEN":
		if !sameKind(v, args[0]) || !sameKind(v, args[1]) {
			return isUnknown
		}
		yes = order(v, args[0]) >= 0 && order(v, args[1]) <= 0
	default:
		s, ok := v.(string)
		if !ok {
			return isUnknown
		}
		for _, a := range args {
			x := a.(string)
			switch op {
			case "MATCHES":
				re, err := regexp.Compile(x)
				if err != nil {
					return isUnknown
				}
				yes = yes || re.MatchString(s)
			case "CONTAINS":
				yes = yes || strings.Contains(s, x)
			case "PREFIX":
				yes = yes || strings.HasPrefix(s, x)
			case "SUFFIX":
				yes = yes || strings.HasSuffix(s, x)
			}
		}
	}
	if yes {
		return isTrue
	}
	return isFalse
}

// read takes an attribute for what it is compared with: text if any side is
// text, else a number, else a boolean.
func read(s, op string, args []any) any {
	var number, boolean bool
	for _, a := range args {
		switch a.(type) {
		case string:
			return s
		case *big.Rat:
			number = true
		case bool:
			boolean = true
		}
	}
	if op == "CONTAINS" || op == "MATCHES" || op == "PREFIX" || op == "SUFFIX" {
		return s
	}
	if number {
		var n json.Number
		if json.Unmarshal([]byte(s), &n) != nil || strings.TrimSpace(s) != s {
			return mismatched{}
		}
		f, err := n.Float64()
		if err != nil {
			return mismatched{}
		}
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return new(big.Rat).SetInt64(i)
		}
		return rat(f)
	}
	if boolean && (s == "true" || s == "false") {
		return s == "true"
	}
	return mismatched{}
}

func sameKind(a, b any) bool {
	switch a.(type) {
	case string:
		_, ok := b.(string)
		return ok
	case *big.Rat:
		_, ok := b.(*big.Rat)
		return ok
	case bool:
		_, ok := b.(bool)
		return ok
	}
	return false
}

func order(a, b any) int {
	if x, ok := a.(*big.Rat); ok {
		return x.Cmp(b.(*big.Rat))
	}
	return strings.Compare(a.(string), b.(string))
}
