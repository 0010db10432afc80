package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// question is what policy evaluate asks about.
type question struct {
	tool, model, action, input, resource string
	agent, workflow, envelope, user      string
	args, attributes, roles              []string
	cost                                 float64
	inputTokens, outputTokens, toolCalls int64
	dryRun                               bool
}

func (o *operator) policyEvaluate() *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use: "evaluate", Short: "Ask what the policies and budgets in force would decide", Args: arguments(),
		Long: `Ask what the policies and budgets in force decide about one action, as an agent
would. Nothing is held and nothing is recorded, unless --dry-run=false: then it is
a decision like any other, and what it holds is given back after ten minutes.

Values of --arg are JSON where they can be (amount=500 is a number), else text;
a dot reaches into an object (to.city=Rome).

The exit code is the answer: 0 allowed (also with a warning), 3 denied by policy,
4 over budget, 5 needs approval.`,
		Example: `  fulcrum policy evaluate --tool drop_table
  fulcrum policy evaluate --tool issue_refund --arg amount_usd=500 --role support
  fulcrum policy evaluate --model gpt-4o --input-tokens 20000 --output-tokens 4000`,
	}
	f := cmd.Flags()
	f.StringVar(&q.tool, "tool", "", "the action is a call of this tool")
	f.StringVar(&q.model, "model", "", "the action is a call of this model")
	f.StringVar(&q.action, "name", "", "name of an action of another --kind")
	kind := enumFlag[governancev1.ActionKind](cmd, "kind", "kind of the action")
	f.StringArrayVar(&q.args, "arg", nil, "argument name=value (repeat)")
	f.StringArrayVar(&q.attributes, "attribute", nil, "fact for policies name=value (repeat)")
	f.StringVar(&q.input, "input", "", "input text")
	f.StringVar(&q.resource, "resource", "", "what the action touches, such as a URI")
	f.StringVar(&q.agent, "agent", "", "agent that acts (if the key is not bound to one)")
	f.StringVar(&q.workflow, "workflow", "", "workflow that it acts in")
	f.StringVar(&q.envelope, "envelope", "", "envelope that it acts in, instead of a new one")
	f.StringVar(&q.user, "user", "", "person on whose behalf it acts")
	f.StringSliceVar(&q.roles, "role", nil, "role of that person (repeat)")
	f.Float64Var(&q.cost, "cost", 0, "worst case in USD (default: from the price table)")
	f.Int64Var(&q.inputTokens, "input-tokens", 0, "tokens of input")
	f.Int64Var(&q.outputTokens, "output-tokens", 0, "tokens of output, at most")
	f.Int64Var(&q.toolCalls, "tool-calls", 0, "tool calls, at most")
	f.BoolVar(&q.dryRun, "dry-run", true, "hold nothing, record nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := q.request(kind())
		if err != nil {
			return err
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.governance.Authorize(ctx, req)
			if err != nil {
				return err
			}
			resp.Reasons = distinct(resp.GetReasons())
			if err := o.answer(cmd, resp, func(out io.Writer, color bool) error { return writeDecision(out, color, resp) }); err != nil {
				return err
			}
			return o.afterDecision(cmd, resp, q.dryRun)
		})(cmd, args)
	}
	return cmd
}

func (q question) request(kind governancev1.ActionKind) (*governancev1.AuthorizeRequest, error) {
	a := &governancev1.Action{Kind: kind, InputText: q.input, Resource: q.resource, Model: q.model}
	switch {
	case q.tool != "" && (q.action != "" || kind > governancev1.ActionKind_ACTION_KIND_TOOL_CALL):
		return nil, usagef("--tool says it all: leave --name and --kind out")
	case q.tool != "":
		a.Kind, a.Name = governancev1.ActionKind_ACTION_KIND_TOOL_CALL, q.tool
	case q.model != "":
		a.Kind, a.Name = governancev1.ActionKind_ACTION_KIND_LLM_CALL, q.model
		if q.action != "" {
			a.Name = q.action
		}
	case q.action != "" && kind != governancev1.ActionKind_ACTION_KIND_UNSPECIFIED:
		a.Name = q.action
	default:
		return nil, usagef("say what is to be done: --tool NAME, --model NAME, or --kind KIND --name NAME")
	}
	attributes, err := pairs("attribute", q.attributes)
	if err != nil {
		return nil, err
	}
	if a.Arguments, err = structure("arg", q.args); err != nil {
		return nil, err
	}
	req := &governancev1.AuthorizeRequest{
		Action: a, Attributes: attributes, DryRun: q.dryRun, IdempotencyKey: uuid.Must(uuid.NewV7()).String(),
		Principal: &governancev1.EndUser{UserId: q.user, Roles: q.roles},
		Estimate:  &governancev1.Estimate{CostUsd: q.cost, InputTokens: q.inputTokens, MaxOutputTokens: q.outputTokens, ToolCalls: q.toolCalls},
	}
	if q.envelope != "" {
		req.Envelope = &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: q.envelope}
	} else {
		req.Envelope = &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{AgentId: q.agent, WorkflowId: q.workflow}}
	}
	return req, nil
}

// distinct drops reasons that say the same: an action that opens its envelope
// is judged twice.
func distinct(reasons []*governancev1.Reason) (out []*governancev1.Reason) {
next:
	for _, r := range reasons {
		for _, other := range out {
			if proto.Equal(r, other) {
				continue next
			}
		}
		out = append(out, r)
	}
	return out
}

// writeDecision is the decision with everything that explains it.
func writeDecision(out io.Writer, color bool, r *governancev1.AuthorizeResponse) error {
	word := terminal.Word(r.GetDecision())
	if color {
		word = terminal.Paint(word)
	}
	if _, err := fmt.Fprintf(out, "%s  %s\n", word, terminal.Clean(r.GetMessage())); err != nil {
		return err
	}
	var tables []*terminal.Table
	reasons := terminal.NewTable("RULE", "SAYS", "POLICY", ">VERSION", "MESSAGE")
	for _, x := range r.GetReasons() {
		says := terminal.Word(x.GetDecision())
		if x.GetShadow() {
			says += " (shadow)"
		}
		rule := x.GetRuleName()
		if rule == "" || x.GetPolicyId() == "" {
			rule = x.GetRuleId()
		}
		version := ""
		if x.GetVersion() > 0 {
			version = fmt.Sprint(x.GetVersion())
		}
		reasons.Row(rule, says, x.GetPolicyName(), version, x.GetMessage())
	}
	duties := terminal.NewTable("OBLIGATION", "PARAMETERS")
	for _, x := range r.GetObligations() {
		duties.Row(x.GetType(), sorted(x.GetParameters()))
	}
	budgets := terminal.NewTable("BUDGET", "UNIT", ">REQUESTED", ">LIMIT", ">SPENT", ">HELD", ">LEFT", "RESETS")
	states := r.GetHold().GetBudgets()
	if r.GetRefusedBy() != nil {
		states = append(states, r.GetRefusedBy())
	}
	for _, b := range states {
		amount := func(v float64) string {
			if b.GetUnit() == "cost_usd" {
				return usd(v)
			}
			return count(int64(v))
		}
		budgets.Row(b.GetName(), b.GetUnit(), amount(b.GetRequested()), amount(b.GetLimit()), amount(b.GetSpent()), amount(b.GetHeld()),
			amount(b.GetRemaining()), when(b.GetResetsAt()))
	}
	tables = append(tables, reasons, duties, budgets)
	for _, t := range tables {
		if t.Len() == 0 {
			continue
		}
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := t.Write(out, color); err != nil {
			return err
		}
	}
	return nil
}

// afterDecision says on what the answer rests, what to do next, and is the exit
// code that stands for it.
func (o *operator) afterDecision(cmd *cobra.Command, r *governancev1.AuthorizeResponse, dry bool) error {
	about := []string{fmt.Sprintf("policy set %d", r.GetPolicySetVersion()), fmt.Sprintf("%d µs", r.GetEvaluatedUs())}
	if dry {
		about = append(about, "dry run: nothing was held or recorded")
	}
	if r.GetDegraded() {
		about = append(about, "a dependency is away: this is the last good configuration, or a failure mode")
	}
	o.say(cmd, "%s", strings.Join(about, ", "))
	if !dry {
		o.next(cmd, "fulcrum decision get %s", r.GetDecisionId())
	}
	switch {
	case r.GetDecision() == governancev1.Decision_DECISION_DENY && r.GetRefusedBy() != nil:
		return answered(exitOverBudget)
	case r.GetDecision() == governancev1.Decision_DECISION_DENY:
		return answered(exitDenied)
	case r.GetDecision() == governancev1.Decision_DECISION_REQUIRE_APPROVAL:
		return answered(exitApproval)
	}
	return nil
}
