package policy

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// SemanticQuestion is what one SEMANTIC condition asks about one context, outside
// any policy. An error says why it asks nothing.
func SemanticQuestion(tenant uuid.UUID, c *policyv1.PolicyCondition, about *policyv1.EvaluationContext) (Asked, error) {
	if k := c.GetConditionType(); k != policyv1.ConditionType_CONDITION_TYPE_SEMANTIC {
		return Asked{}, fmt.Errorf("is %s: only SEMANTIC conditions are for a model", short(k))
	}
	q, err := question(policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, c)
	if err != nil {
		return Asked{}, err
	}
	f, _, err := parseField(q.Field)
	if err != nil {
		return Asked{}, err
	}
	facts := &policyenginev1.Facts{
		WorkflowId: about.GetWorkflowId(), EnvelopeId: about.GetEnvelopeId(), Phase: about.GetPhase(), AgentId: about.GetAgentId(), AgentTeam: about.GetAgentTeam(),
		UserId: about.GetUserId(), UserRoles: about.GetUserRoles(), ModelId: about.GetModelId(), ToolNames: about.GetToolNames(), Attributes: about.GetAttributes(),
	}
	if t := about.GetInputText(); t != "" {
		facts.InputText = &t
	}
	if t := about.GetOutputText(); t != "" {
		facts.OutputText = &t
	}
	v := (&Set{tenant: tenant.String(), zone: time.UTC}).view(facts)
	tool := ""
	if len(v.tools) > 0 {
		tool = v.tools[0]
	}
	if t := v.lookup(need{field: f, kinds: text}, tool); t != nil {
		if s, ok := t.Value.(ast.String); ok {
			return Asked{q, string(s)}, nil
		}
	}
	return Asked{}, fmt.Errorf("asks about %s, which the context does not have", q.Field)
}
