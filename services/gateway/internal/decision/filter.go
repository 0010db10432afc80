package decision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// filterWidth is how many tools of a list are judged at a time.
const filterWidth = 16

// Filter says of each tool what the policies would decide if it were called
// now. Nothing is held or recorded: to see a tool is not to use it, and its use
// is decided when it comes.
func (p *Pipeline) Filter(ctx context.Context, who identity.Principal, req *governancev1.FilterToolsRequest) (*governancev1.FilterToolsResponse, error) {
	id := parse(req.GetEnvelopeId())
	env, now, err := p.environment(ctx, who, req.GetEnvelopeId())
	if err != nil {
		return nil, err
	}
	if env == nil && req.GetEnvelopeId() != "" {
		return nil, envelope.ErrNotFound(id)
	}
	a, err := actorOf(who, env, req.GetPrincipal())
	if err != nil {
		return nil, err
	}
	results := make([]*policyenginev1.EvaluateResponse, len(req.GetTools()))
	errs := make([]error, len(req.GetTools()))
	width := make(chan struct{}, filterWidth)
	var all sync.WaitGroup
	for i, tool := range req.GetTools() {
		ask, err := toolFacts(now.UnixNano(), a, env, req, tool)
		if err != nil {
			return nil, err
		}
		width <- struct{}{}
		all.Go(func() {
			defer func() { <-width }()
			results[i], errs[i] = p.verdict(ctx, &counted{who: who, actor: a, env: env, workflow: ask.GetWorkflowId(), tool: tool.GetName()}, &policyenginev1.EvaluateRequest{Facts: ask, AtLeastVersion: req.GetAtLeastVersion()})
		})
	}
	all.Wait()
	resp := &governancev1.FilterToolsResponse{}
	for i, tool := range req.GetTools() {
		if errs[i] != nil {
			return nil, errs[i]
		}
		resp.Tools = append(resp.Tools, toolVerdict(tool.GetName(), results[i]))
		resp.Degraded = resp.Degraded || results[i].GetDegraded()
		if v := results[i].GetPolicySetVersion(); i == 0 || v < resp.PolicySetVersion {
			resp.PolicySetVersion = v
		}
	}
	return resp, nil
}

// toolFacts are those of a call of the tool whose arguments nobody knows yet.
func toolFacts(now int64, a actor, env *envelope.Envelope, req *governancev1.FilterToolsRequest, tool *governancev1.Tool) (*policyenginev1.Facts, error) {
	attributes := req.GetAttributes()
	if tool.GetDescriptionHash() != "" || tool.GetInputSchema() != nil {
		attributes = maps.Clone(attributes)
		if attributes == nil {
			attributes = make(map[string]string, 2)
		}
	}
	if tool.GetDescriptionHash() != "" {
		attributes["tool.description_hash"] = tool.GetDescriptionHash()
	}
	if tool.GetInputSchema() != nil {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(tool.GetInputSchema())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(raw)
		attributes["tool.schema_hash"] = hex.EncodeToString(sum[:])
	}
	return facts(now, a, env, &governancev1.AuthorizeRequest{
		Action:     &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: tool.GetName()},
		Attributes: attributes,
	}), nil
}

func toolVerdict(name string, r *policyenginev1.EvaluateResponse) *governancev1.ToolVerdict {
	v := &governancev1.ToolVerdict{Name: name, Decision: r.GetDecision(), Reasons: r.GetReasons()}
	if d, open := withoutArguments(r); open {
		v.Decision, v.DependsOnArguments = d, true
	}
	v.Usable = v.GetDecision() != deny
	v.Message = message(&governancev1.AuthorizeResponse{Decision: v.GetDecision(), Reasons: v.GetReasons(), Degraded: r.GetDegraded()})
	return v
}

// withoutArguments is what the policies say that need not know the arguments,
// and whether the others are all that stands in the way.
func withoutArguments(r *policyenginev1.EvaluateResponse) (d governancev1.Decision, open bool) {
	d = allow
	for _, one := range r.GetResults() {
		switch one.GetOutcome() {
		case policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED:
			if !strings.Contains(one.GetError(), "action.args.") && !strings.Contains(one.GetError(), "estimate.") {
				return r.GetDecision(), false
			}
			open = true
		case policyenginev1.PolicyOutcome_POLICY_OUTCOME_EVALUATED:
			d = max(d, one.GetDecision())
		}
	}
	return d, open
}
