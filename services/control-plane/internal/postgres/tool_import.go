package postgres

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// ImportTools implements tool.Store.
func (s *Store) ImportTools(ctx context.Context, by identity.Principal, dry bool,
	plan func(map[string]*controlplanev1.Tool) []*controlplanev1.ToolChange) (int64, error) {
	versions, err := s.change(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		// The bundle's row is locked, so nobody changes a tool in between.
		rows, err := q.Tools(ctx, controldb.ToolsParams{TenantID: by.Tenant, Lim: maxTools + 1})
		if err != nil {
			return told{}, fmt.Errorf("read tools: %w", err)
		}
		before := make(map[string]*controlplanev1.Tool, len(rows))
		for _, row := range rows {
			before[row.Name] = toolOf(controldb.ToolRow(row))
		}
		changes := plan(before)
		if dry {
			return told{}, errUnchanged
		}
		var what told
		for _, c := range changes {
			f, err := importTool(ctx, q, by, c)
			if err != nil {
				return told{}, err
			}
			if f != nil {
				what.facts = append(what.facts, *f)
			}
		}
		if len(what.facts) == 0 {
			return told{}, errUnchanged
		}
		return what, nil
	})
	return versions[policies], err
}

// importTool carries one change out, and returns what there is to say of it. A
// change that nobody has confirmed is said, too: somebody's server has changed
// what its tool is.
func importTool(ctx context.Context, q *controldb.Queries, by identity.Principal, c *controlplanev1.ToolChange) (*change.Fact, error) {
	key := controldb.ToolParams{TenantID: by.Tenant, Name: c.GetName()}
	f := &change.Fact{Resource: "tool:" + c.GetName()}
	if c.GetBefore() != nil {
		f.Before = c.GetBefore()
	}
	switch {
	case c.GetNeedsConfirmation():
		f.Type, f.Action, f.After = "tool_change_held", "tool.import", c.GetAfter()
		return f, nil
	case !c.GetApplied():
		return nil, nil
	case c.GetKind() == controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_MISSING:
		if _, err := q.DeleteTool(ctx, controldb.DeleteToolParams(key)); err != nil {
			return nil, fmt.Errorf("delete tool: %w", err)
		}
		f.Type, f.Action = "tool_deleted", "tool.import"
		return f, nil
	}
	t := c.GetAfter()
	row, err := q.UpsertTool(ctx, controldb.UpsertToolParams{
		TenantID: by.Tenant, Name: t.GetName(), Description: t.GetDescription(), InputSchema: t.GetInputSchema(), Source: t.GetSource(),
		Annotations: t.GetAnnotations(), Digest: t.GetDigest(),
	})
	if err != nil {
		return nil, fmt.Errorf("store tool %s: %w", t.GetName(), err)
	}
	stored := toolOf(controldb.ToolRow{
		Name: t.GetName(), Description: t.GetDescription(), InputSchema: t.GetInputSchema(), Source: t.GetSource(), Annotations: t.GetAnnotations(),
		Digest: t.GetDigest(), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	})
	proto.Reset(t)
	proto.Merge(t, stored)
	f.Type, f.Action, f.After = "tool_registered", "tool.import", stored
	if c.GetBefore() != nil {
		f.Type = "tool_updated"
	}
	return f, nil
}
