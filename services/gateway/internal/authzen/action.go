package authzen

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// own is the member of a question's context that speaks of Fulcrum: fields of
// AuthorizeRequest that AuthZEN has no word for.
const own = "fulcrum"

// Authorize is the question as an action, and who then acts: the caller, or the
// agent that it asks for. The request still needs an idempotency key, unless
// the question brought one.
func (e Evaluation) Authorize(caller identity.Principal) (*governancev1.AuthorizeRequest, identity.Principal, error) {
	if err := e.complete(); err != nil {
		return nil, caller, err
	}
	req, err := e.ours()
	if err != nil {
		return nil, caller, err
	}
	if e.Subject.Type == "agent" {
		if caller.AgentID != "" && caller.AgentID != e.Subject.ID {
			return nil, caller, fault.New(fault.Denied, "this credential acts as agent %s only", caller.AgentID).
				WithReason("AGENT_MISMATCH").WithViolation("subject.id", "differs from the credential's agent")
		}
		caller.AgentID = e.Subject.ID
	}
	if e.Subject.Type == "user" {
		req.Principal = &governancev1.EndUser{UserId: e.Subject.ID, Roles: roles(e.Subject.Properties)}
	}
	if req.Action, err = e.action(); err != nil {
		return nil, caller, err
	}
	if req.Attributes, err = e.attributes(); err != nil {
		return nil, caller, err
	}
	return req, caller, nil
}

// ours reads the context's own member. What AuthZEN has words for is taken from
// there, and may not be said twice.
func (e Evaluation) ours() (*governancev1.AuthorizeRequest, error) {
	req := new(governancev1.AuthorizeRequest)
	said, ok := e.Context[own]
	if !ok {
		return req, nil
	}
	raw, err := json.Marshal(said)
	if err != nil {
		return nil, fmt.Errorf("write context.%s: %w", own, err)
	}
	if err := protojson.Unmarshal(raw, req); err != nil {
		return nil, fault.Field("context."+own, "does not hold fields of an AuthorizeRequest").WithReason("REQUEST_MALFORMED").WithCause(err)
	}
	if req.GetAction() != nil || req.GetPrincipal() != nil || len(req.GetAttributes()) > 0 || req.GetInline() != nil {
		return nil, fault.Field("context."+own, "must leave action, principal, attributes and inline to subject, action, resource and context").
			WithReason("VALIDATION_FAILED")
	}
	return req, nil
}

// action is what is to be decided. A tool or a model is named by the resource;
// of everything else the action's name is ours too, and the resource is what it
// touches.
func (e Evaluation) action() (*governancev1.Action, error) {
	a := &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_OTHER, Name: e.Action.Name, Resource: e.Resource.Type + ":" + e.Resource.ID}
	arguments := make(map[string]any, len(e.Action.Properties)+2)
	for k, v := range e.Action.Properties {
		arguments[k] = v
	}
	switch e.Resource.Type {
	case "tool":
		a.Kind, a.Name = governancev1.ActionKind_ACTION_KIND_TOOL_CALL, e.Resource.ID
	case "model":
		a.Kind, a.Name = governancev1.ActionKind_ACTION_KIND_LLM_CALL, e.Resource.ID
	default:
		// With their properties among the arguments, an approval is for this very
		// subject and resource as they were described.
		for name, entity := range map[string]*Entity{"subject": e.Subject, "resource": e.Resource} {
			if len(entity.Properties) == 0 {
				continue
			}
			if _, taken := arguments[name]; taken {
				return nil, fault.Field("action.properties."+name, "is where the %s's properties go", name).WithReason("VALIDATION_FAILED")
			}
			arguments[name] = entity.Properties
		}
	}
	if len(arguments) == 0 {
		return a, nil
	}
	var err error
	if a.Arguments, err = structpb.NewStruct(arguments); err != nil {
		return nil, fault.Field("action.properties", "cannot be read").WithReason("REQUEST_MALFORMED").WithCause(err)
	}
	return a, nil
}

// attributes are all that was said, as text, by its path.
func (e Evaluation) attributes() (map[string]string, error) {
	f := flat{
		"subject.type": e.Subject.Type, "subject.id": e.Subject.ID,
		"resource.type": e.Resource.Type, "resource.id": e.Resource.ID, "action.name": e.Action.Name,
	}
	for at, properties := range map[string]map[string]any{
		"subject.properties": e.Subject.Properties, "resource.properties": e.Resource.Properties, "context": e.Context,
	} {
		for k, v := range properties {
			if at == "context" && k == own {
				continue
			}
			if err := f.put(at+"."+k, v); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// flat maps paths to texts.
type flat map[string]string

// put adds v. A null adds nothing: a condition on it is then an error, which
// never lets an action through.
func (f flat) put(at string, v any) error {
	var text string
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		for k, inner := range v {
			if err := f.put(at+"."+k, inner); err != nil {
				return err
			}
		}
		return nil
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	default: // a list
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("write %s: %w", at, err)
		}
		text = string(raw)
	}
	if _, twice := f[at]; twice {
		return fault.Field(at, "is said twice, once by a name with a dot in it").WithReason("VALIDATION_FAILED")
	}
	f[at] = text
	return nil
}

// roles are those of a user: properties.role and properties.roles.
func roles(properties map[string]any) (all []string) {
	if role, ok := properties["role"].(string); ok {
		all = append(all, role)
	}
	list, _ := properties["roles"].([]any)
	for _, v := range list {
		if role, ok := v.(string); ok {
			all = append(all, role)
		}
	}
	return all
}
