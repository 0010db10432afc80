package tool

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// Import registers the tools of an MCP server. What it changes it changes in one
// transaction; what somebody must look at first stays as it was.
func (s *Service) Import(ctx context.Context, by identity.Principal, req *controlplanev1.ImportToolsRequest) ([]*controlplanev1.ToolChange, int64, error) {
	source := req.GetSource()
	if source != strings.TrimSpace(source) || strings.ContainsRune(source, 0) {
		return nil, 0, fault.Field("source", "must not begin or end with a blank, or hold a zero byte")
	}
	all, err := parse(req.GetToolsList())
	if err != nil {
		return nil, 0, err
	}
	for i, l := range all {
		l.tool.Source = source
		if l.problem != "" || l.tool.GetInputSchema() == "" {
			continue
		}
		err := s.check.CheckTool(ctx, l.tool.GetInputSchema())
		if err != nil && !fault.Is(err, fault.Invalid) {
			return nil, 0, err // nobody can tell
		}
		if err != nil {
			all[i].problem = err.Error()
		}
	}
	pins := make(map[string]string, len(req.GetConfirm()))
	for _, p := range req.GetConfirm() {
		pins[p.GetName()] = p.GetDigest()
	}
	var changes []*controlplanev1.ToolChange
	version, err := s.store.ImportTools(ctx, by, req.GetDryRun(), func(before map[string]*controlplanev1.Tool) []*controlplanev1.ToolChange {
		changes = plan(source, before, all, pins, req.GetRemoveMissing())
		return changes
	})
	if err != nil {
		return nil, 0, err
	}
	if req.GetDryRun() {
		for _, c := range changes {
			c.Applied = false
		}
	}
	return changes, version, nil
}

// plan says what an import means for every tool that it is about.
func plan(source string, before map[string]*controlplanev1.Tool, all []listed, pins map[string]string, removeMissing bool) []*controlplanev1.ToolChange {
	var changes []*controlplanev1.ToolChange
	there := map[string]bool{}
	for _, l := range all {
		name := l.tool.GetName()
		there[name] = true
		changes = append(changes, weigh(source, before[name], l, pins[name]))
	}
	for name, t := range before {
		if t.GetSource() == source && !there[name] {
			changes = append(changes, &controlplanev1.ToolChange{
				Name: name, Kind: controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_MISSING, Before: t, Applied: removeMissing,
			})
		}
	}
	slices.SortFunc(changes, func(a, b *controlplanev1.ToolChange) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return changes
}

// weigh says what a listed tool is to the one that is registered under its name.
func weigh(source string, before *controlplanev1.Tool, l listed, pin string) *controlplanev1.ToolChange {
	c := &controlplanev1.ToolChange{Name: l.tool.GetName(), Before: before, After: proto.CloneOf(l.tool), Problem: l.problem}
	if before != nil {
		c.Differs = differs(before, l.tool)
	}
	switch {
	case l.problem != "":
		// What is registered stays: it is what somebody has seen.
		c.Kind = controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_UNUSABLE
	case before == nil:
		c.Kind, c.Applied = controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_NEW, true
	case before.GetSource() != source:
		c.Kind = controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_ELSEWHERE
		c.Applied = pin == l.tool.GetDigest()
		c.NeedsConfirmation = !c.GetApplied()
	case before.GetDigest() == l.tool.GetDigest():
		c.Kind = controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_SAME
	default:
		c.Kind = controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_CHANGED
		c.Applied = pin == l.tool.GetDigest()
		c.NeedsConfirmation = !c.GetApplied()
	}
	return c
}
