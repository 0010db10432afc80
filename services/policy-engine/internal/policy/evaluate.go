package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// Request is one question to a Set.
type Request struct {
	Facts *policyenginev1.Facts
	// Only names the policies to judge by; empty means all.
	Only       []string
	StopOnDeny bool

	coverage *sandbox.Coverage // of Rego, when a policy is tested
	limit    time.Duration     // instead of requestDeadline, if it is shorter
	// Answers to what Questions returned.
	Answers Answers
}

// UnknownPolicyError names a policy that was asked for and is not in the Set.
type UnknownPolicyError struct{ ID string }

func (e *UnknownPolicyError) Error() string { return fmt.Sprintf("no active policy %q", e.ID) }

// requestDeadline bounds the evaluation of all policies together. Policies it
// does not reach have failed.
const requestDeadline = 100 * time.Millisecond

// Evaluate judges the facts by every policy asked for and combines what they
// decide: DENY over REQUIRE_APPROVAL over WARN over ALLOW. It always decides; the
// only error is an *UnknownPolicyError.
func (s *Set) Evaluate(ctx context.Context, r Request) (*policyenginev1.EvaluateResponse, error) {
	only, err := s.chosen(r.Only)
	if err != nil {
		return nil, err
	}
	e := &evaluation{
		set: s, view: s.view(r.Facts), request: r, only: only, start: time.Now(),
		answer: &policyenginev1.EvaluateResponse{
			PolicySetVersion: s.version,
			Results:          make([]*policyenginev1.PolicyResult, 0, len(s.policies)+1),
		},
	}
	e.view.answers = r.Answers
	e.end = e.start.Add(requestDeadline)
	if r.limit > 0 && r.limit < requestDeadline {
		e.end = e.start.Add(r.limit)
	}
	e.envelope()
	e.tools()
	e.judgeRules(ctx)
	for i, p := range s.policies {
		if only == nil || only[i] {
			e.policy(ctx, p)
		}
	}
	return e.finish(), nil
}

// chosen marks the policies with the given ids; nil means all of them.
func (s *Set) chosen(ids []string) ([]bool, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	only := make([]bool, len(s.policies))
next:
	for _, id := range ids {
		for i, p := range s.policies {
			if p.source.GetPolicyId() == id {
				only[i] = true
				continue next
			}
		}
		return nil, &UnknownPolicyError{ID: id}
	}
	return only, nil
}

// evaluation is one call of Evaluate.
type evaluation struct {
	set     *Set
	view    *view
	request Request
	only    []bool
	start   time.Time
	end     time.Time
	answer  *policyenginev1.EvaluateResponse

	verdict  *verdict // of the structured rules; nil when they failed together
	share    int64    // microseconds of judging them, per policy
	approval *approval
	denied   bool
	docs     []*ast.Term // the facts as Rego sees them, one for each tool
	docErr   error
	slab     []policyenginev1.PolicyResult // not handed out yet
}

// judgeRules runs the structured rules of all policies in one query.
func (e *evaluation) judgeRules(ctx context.Context) {
	wanted := int64(0)
	for i, p := range e.set.policies {
		if len(p.rules) > 0 && (e.only == nil || e.only[i]) {
			wanted++
		}
	}
	if wanted == 0 || e.set.unit == nil {
		return
	}
	began := time.Now()
	if v, err := e.set.unit.run(ctx, e.view, min(rulesDeadline, time.Until(e.end)), e.end); err == nil {
		e.verdict = v
	}
	e.share = time.Since(began).Microseconds() / wanted
}

func (e *evaluation) policy(ctx context.Context, p *compiled) {
	applies, unsure := p.applies(e.view)
	switch {
	case !applies:
		e.answer.Results = append(e.answer.Results, p.skipped)
	case e.denied && e.request.StopOnDeny:
		e.answer.Results = append(e.answer.Results, p.stopped)
	case unsure != nil:
		e.add(p, nil, unsure, 0)
	case p.broken != "":
		e.add(p, nil, errors.New(p.broken), 0)
	case p.rego != nil:
		began := time.Now()
		matched, err := e.rego(ctx, p)
		e.add(p, matched, err, time.Since(began).Microseconds())
	case len(p.rules) == 0:
		e.add(p, nil, nil, 0)
	case e.verdict != nil:
		matched, err := p.read(e.set.unit, e.verdict, p.first)
		e.add(p, matched, err, e.share)
	default:
		e.alone(ctx, p)
	}
}

// applies reports whether p's scope and time of validity cover the facts.
func (p *compiled) applies(v *view) (bool, error) {
	if !v.inScope(p.source.GetScope()) {
		return false, nil
	}
	if p.from == 0 && p.until == 0 {
		return true, nil
	}
	now := v.facts.GetTimeUnixNano()
	if now == 0 {
		return true, errors.New("the time is unknown, and the policy is limited in time")
	}
	return (p.from == 0 || now >= p.from) && (p.until == 0 || now < p.until), nil
}

// alone judges p's rules by themselves, after the rules of all policies failed
// together, so that only the guilty policy fails.
func (e *evaluation) alone(ctx context.Context, p *compiled) {
	began := time.Now()
	u, err := p.alone()
	if err == nil {
		var v *verdict
		if left := time.Until(e.end); left <= 0 {
			err = sandbox.ErrTimeout
		} else if v, err = u.run(ctx, e.view, rulesDeadline/2, e.end); err == nil {
			matched, unsure := p.read(u, v, 0)
			e.add(p, matched, unsure, time.Since(began).Microseconds())
			return
		}
	}
	e.add(p, nil, err, time.Since(began).Microseconds())
}

// read collects p's matched rules in order, up to a terminal one. It returns an
// error when one of them is unsure.
func (p *compiled) read(u *unit, v *verdict, first int) (matched []*entry, err error) {
	if len(v.found) == 0 {
		return nil, nil
	}
	for i, r := range p.rules {
		switch f := v.found[first+i]; f.truth {
		case yes:
			e := &entry{match: u.lines[f.line].match, outcome: *r.outcome}
			e.account(u, &u.lines[f.line], v.view)
			matched = append(matched, e)
			if r.terminal {
				return matched, err
			}
		case unsure:
			if err == nil {
				err = &unknownError{rule: r.id, why: f.lacks}
			}
		}
	}
	return matched, err
}

// unknownError says that a rule could not be judged. Its text holds names of
// fields and rules only, so agents may see it.
type unknownError struct{ rule, why string }

func (e *unknownError) Error() string { return fmt.Sprintf("rule %q: %s", e.rule, e.why) }

// rego evaluates p's module, once for each tool that is named.
func (e *evaluation) rego(ctx context.Context, p *compiled) ([]*entry, error) {
	if e.docs == nil && e.docErr == nil {
		tools := e.view.tools
		if len(tools) == 0 {
			tools = []string{""}
		}
		for _, tool := range tools {
			doc, err := e.view.document(tool)
			if err != nil {
				e.docErr = err
				break
			}
			e.docs = append(e.docs, doc)
		}
	}
	if e.docErr != nil {
		return nil, e.docErr
	}
	done, err := e.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var all []*entry
	for _, doc := range e.docs {
		matched, err := p.rego.run(ctx, p, doc, e.end, e.request.coverage)
		if err != nil {
			return all, err
		}
		all = append(all, matched...)
	}
	return all, nil
}

// errBusy says that a tenant's own policies keep its turns taken.
var errBusy = errors.New("too many evaluations of the tenant's own Rego at once")

// turn waits until the tenant may run its Rego on another core, and returns how
// to end that. A tenant has half of the cores for it, so that whatever its code
// does, the others have theirs.
func (e *evaluation) turn(ctx context.Context) (done func(), err error) {
	if sandbox.Short() {
		return nil, sandbox.ErrMemory
	}
	done = func() { <-e.set.turns }
	select {
	case e.set.turns <- struct{}{}:
		return done, nil
	default:
	}
	late := time.NewTimer(time.Until(e.end))
	defer late.Stop()
	select {
	case e.set.turns <- struct{}{}:
		if !time.Now().Before(e.end) { // handed on before the timer was heard
			done()
			return nil, errBusy
		}
		return done, nil
	case <-late.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// result returns an empty result. They are made together: a tenant may have a
// hundred policies, and most have nothing to say.
func (e *evaluation) result() *policyenginev1.PolicyResult {
	if len(e.slab) == 0 {
		e.slab = make([]policyenginev1.PolicyResult, len(e.set.policies))
	}
	r := &e.slab[0]
	e.slab = e.slab[1:]
	return r
}

// add records what p decided: by the entries that matched, and by its failure
// mode if err says that it could not be evaluated in full.
func (e *evaluation) add(p *compiled, matched []*entry, err error, micros int64) {
	r := e.result()
	r.PolicyId, r.PolicyName, r.Version = p.source.GetPolicyId(), p.source.GetName(), p.source.GetVersion()
	r.Outcome, r.DurationUs = policyenginev1.PolicyOutcome_POLICY_OUTCOME_EVALUATED, micros
	var ask *approval
	var decided governancev1.Decision
	for _, m := range matched {
		r.MatchedRules = append(r.MatchedRules, m.match)
		r.Actions = append(r.Actions, m.actions...)
		r.Reasons = append(r.Reasons, m.reasons...)
		decided = max(decided, m.decision)
		if m.approval != nil && m.approval.stronger(ask) {
			ask = m.approval
		}
	}
	r.Terminate = p.level == policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_TERMINATE && decided == governancev1.Decision_DECISION_DENY
	counts := decided
	if err != nil {
		r.Outcome, r.Error = policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED, err.Error()
		if p.failOpen {
			// Failing open takes nothing away, from a default of DENY neither.
			decided = max(decided, governancev1.Decision_DECISION_ALLOW)
		} else {
			decided = governancev1.Decision_DECISION_DENY
			counts = decided
		}
		r.Reasons = append(r.Reasons, p.failure(err, decided))
	}
	r.Reasons = append(r.Reasons, p.learning(e.view)...)
	r.Decision = p.enforced(decided)
	for _, reason := range r.Reasons {
		if reason.GetDecision() == r.Decision {
			r.Message = reason.GetMessage()
			break
		}
	}
	e.answer.Results = append(e.answer.Results, r)
	if p.shadow() {
		r.Outcome, r.Terminate = policyenginev1.PolicyOutcome_POLICY_OUTCOME_SHADOW, false
		return
	}
	counts = p.enforced(counts)
	e.answer.Decision = max(e.answer.Decision, counts)
	e.answer.TerminateEnvelope = e.answer.TerminateEnvelope || r.Terminate
	e.denied = e.denied || counts == governancev1.Decision_DECISION_DENY
	if ask != nil && ask.stronger(e.approval) {
		e.approval = ask
	}
	for _, m := range matched {
		for _, o := range m.obligations {
			e.answer.Obligations = append(e.answer.Obligations, e.set.zoned(o))
		}
	}
}

// TookTooLong is in the message of a failure that is one of time.
var TookTooLong = sandbox.ErrTimeout.Error()

// failure is the reason of a policy that could not be evaluated. Agents see it,
// so it says more than that only where nothing of the policy or the facts shows.
func (p *compiled) failure(err error, d governancev1.Decision) *governancev1.Reason {
	message := "the policy could not be evaluated"
	var unknown *unknownError
	switch {
	case errors.As(err, &unknown):
		message += ": " + unknown.why
	case errors.Is(err, sandbox.ErrTimeout), errors.Is(err, sandbox.ErrQuarantined), errors.Is(err, sandbox.ErrMemory), errors.Is(err, errBusy):
		message += ": " + err.Error()
	}
	mode := "DENY"
	if p.failOpen {
		mode = "ALLOW"
	}
	return p.reason(&governancev1.Reason{
		RuleId: "failure_mode", Message: message + "; its failure mode is " + mode, Decision: p.enforced(d),
	})
}

const (
	envelopeID0 = "envelope"
	maxReasons  = 100
)

// envelope applies the limits of the envelope, which are rules like any other.
func (e *evaluation) envelope() {
	f, v := e.view.facts, e.view
	if allowed := f.GetAllowedTools(); len(allowed) > 0 && v.moment.has(toolName) {
		if len(v.tools) == 0 {
			e.exceeds("allowed_tools", "the envelope limits tools, and the tool is unknown")
		}
		for _, tool := range v.tools {
			if !among(allowed, tool) {
				e.exceeds("allowed_tools", fmt.Sprintf("the envelope does not allow the tool %q", clip(tool, 128)))
				break
			}
		}
	}
	if allowed := f.GetAllowedModels(); len(allowed) > 0 && (v.model != "" || v.moment.has(modelID)) {
		switch {
		case v.model == "":
			e.exceeds("allowed_models", "the envelope limits models, and the model is unknown")
		case !among(allowed, v.model):
			e.exceeds("allowed_models", fmt.Sprintf("the envelope does not allow the model %q", clip(v.model, 128)))
		}
	}
}

func (e *evaluation) exceeds(rule, message string) {
	e.builtIn(envelopeID0, rule, message, governancev1.Decision_DECISION_DENY)
}

// builtIn records a decision that is no policy's.
func (e *evaluation) builtIn(id, rule, message string, d governancev1.Decision) {
	reason := &governancev1.Reason{
		PolicyId: id, PolicyName: id, RuleId: rule, RuleName: rule,
		Message: message, Severity: "HIGH", Decision: d,
	}
	e.answer.Results = append(e.answer.Results, &policyenginev1.PolicyResult{
		PolicyId: id, PolicyName: id,
		Outcome:  policyenginev1.PolicyOutcome_POLICY_OUTCOME_EVALUATED,
		Decision: d, Message: message,
		MatchedRules: []*policyv1.RuleMatch{{RuleId: rule, RuleName: rule}},
		Reasons:      []*governancev1.Reason{reason},
	})
	e.answer.Decision = max(e.answer.Decision, d)
	e.denied = e.denied || d == governancev1.Decision_DECISION_DENY
}

// finish fills in what depends on all policies.
func (e *evaluation) finish() *policyenginev1.EvaluateResponse {
	a := e.answer
	if a.Decision == governancev1.Decision_DECISION_UNSPECIFIED {
		a.Decision, a.Defaulted = e.set.fallback, true
	}
	if a.Decision == governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		a.ApprovalQuorum = 1
		if e.approval != nil {
			a.ApprovalQuorum, a.ApprovalRoles, a.ApprovalTtlSeconds = e.approval.quorum, e.approval.roles, e.approval.ttl
		}
	}
	// Strongest first, and within a strength in the order of policies.
	for d := governancev1.Decision_DECISION_DENY; d > governancev1.Decision_DECISION_UNSPECIFIED; d-- {
		for _, r := range a.Results {
			for _, reason := range r.Reasons {
				if reason.GetDecision() == d && len(a.Reasons) < maxReasons {
					a.Reasons = append(a.Reasons, reason)
				}
			}
		}
	}
	a.History, a.Baselines, a.Budgets = e.set.history, e.set.baselines(e.view), e.set.budgets
	a.EvaluatedUs = time.Since(e.start).Microseconds()
	return a
}
