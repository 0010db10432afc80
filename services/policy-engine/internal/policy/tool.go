package policy

import (
	"fmt"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/toolschema"
)

// tools are what a tenant registered: by name, nil for one that takes anything.
type tools struct {
	known   map[string]*toolschema.Schema
	unknown governancev1.Decision // what others mean; unspecified and ALLOW: nothing
}

// tools compiles the schemas of a bundle. A tool whose schema does not compile
// is a problem of the bundle, and not known.
func (c *Compiler) tools(b *configv1.PolicyBundle, broken *BrokenError) tools {
	t := tools{known: make(map[string]*toolschema.Schema, len(b.GetTools())), unknown: b.GetSettings().GetUnknownTool()}
	for _, tool := range b.GetTools() {
		if tool.GetInputSchema() == "" {
			t.known[tool.GetName()] = nil
			continue
		}
		s, err := c.schemas.get(tool.GetInputSchema(), toolschema.Compile)
		if err != nil {
			broken.Problems["tool "+tool.GetName()] = []Problem{{Field: "input_schema", Message: err.Error()}}
			s = toolschema.Nothing()
		}
		t.known[tool.GetName()] = s
	}
	return t
}

// ValidateTool says what is wrong with the schema of a tool.
func (c *Compiler) ValidateTool(schema string) []Problem {
	if schema == "" {
		return nil
	}
	if _, err := c.schemas.get(schema, toolschema.Compile); err != nil {
		return []Problem{{Field: "input_schema", Message: err.Error()}}
	}
	return nil
}

const (
	toolsID      = "tools"
	argumentsID  = "arguments"
	unknownTool  = "unknown_tool"
	longestNamed = 128 // bytes of a tool's name in a message
)

// tools holds a call against what the tenant registered, before any policy: a
// policy may only look at arguments that are what they are said to be. Whatever
// kind of action an agent names, a name is a tool's, or nobody's.
func (e *evaluation) tools() {
	v, t := e.view, e.set.tools
	if v.moment.after || !v.moment.has(toolName) {
		return
	}
	action := v.facts.GetAction()
	for _, name := range v.tools {
		schema, known := t.known[name]
		switch {
		case !known:
			e.unknown(fmt.Sprintf("the tool %q is not registered", clip(name, longestNamed)))
		case schema == nil || action == nil || action.GetName() != name:
			// Anything goes; or only the name is known, as in a list of tools.
		default:
			if err := schema.Check(action.GetArguments()); err != nil {
				e.builtIn(toolsID, argumentsID, fmt.Sprintf("the call does not fit the tool %q: %s", clip(name, longestNamed), err), governancev1.Decision_DECISION_DENY)
			}
		}
	}
	if len(v.tools) == 0 && v.moment.tool {
		e.unknown("the tool has no name")
	}
}

func (e *evaluation) unknown(message string) {
	if d := e.set.tools.unknown; d > governancev1.Decision_DECISION_ALLOW {
		e.builtIn(toolsID, unknownTool, message, d)
	}
}
