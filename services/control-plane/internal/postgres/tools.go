package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// PutTool implements tool.Store.
func (s *Store) PutTool(ctx context.Context, by identity.Principal, t *controlplanev1.Tool) (stored *controlplanev1.Tool, version int64, err error) {
	key := controldb.ToolParams{TenantID: by.Tenant, Name: t.GetName()}
	versions, err := s.change(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		// The bundle's row is locked, so nobody changes a tool in between.
		var before *controlplanev1.Tool
		what := change.Fact{Type: "tool_registered", Action: "tool.register", Resource: "tool:" + t.GetName()}
		switch row, err := q.Tool(ctx, key); {
		case err == nil:
			before = toolOf(row)
			what.Type, what.Action, what.Before = "tool_updated", "tool.update", before
		case !errors.Is(err, pgx.ErrNoRows):
			return told{}, fmt.Errorf("read tool: %w", err)
		}
		row, err := q.UpsertTool(ctx, controldb.UpsertToolParams{
			TenantID: by.Tenant, Name: t.GetName(), Description: t.GetDescription(), InputSchema: t.GetInputSchema(),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			stored = before
			return told{}, errUnchanged
		}
		if err != nil {
			return told{}, fmt.Errorf("store tool: %w", err)
		}
		stored = toolOf(controldb.ToolRow{
			Name: t.GetName(), Description: t.GetDescription(), InputSchema: t.GetInputSchema(), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
		})
		what.After = stored
		return fact(what), nil
	})
	return stored, versions[policies], err
}

// Tools implements tool.Store.
func (s *Store) Tools(ctx context.Context, tenant uuid.UUID, after string, limit int) (page []*controlplanev1.Tool, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := controldb.New(tx).Tools(ctx, controldb.ToolsParams{TenantID: tenant, AfterName: after, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("list tools: %w", err)
		}
		for _, row := range rows {
			page = append(page, toolOf(controldb.ToolRow(row)))
		}
		return nil
	})
	return page, err
}

// DeleteTool implements tool.Store.
func (s *Store) DeleteTool(ctx context.Context, by identity.Principal, name string) (int64, error) {
	versions, err := s.change(ctx, by, by.Tenant, []kind{policies}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.DeleteTool(ctx, controldb.DeleteToolParams{TenantID: by.Tenant, Name: name})
		if err != nil {
			return told{}, missing(err, "tool", fmt.Sprintf("%.256q", name))
		}
		return fact(change.Fact{Type: "tool_deleted", Action: "tool.delete", Resource: "tool:" + name, Before: toolOf(controldb.ToolRow(row))}), nil
	})
	return versions[policies], err
}

func toolOf(row controldb.ToolRow) *controlplanev1.Tool {
	return &controlplanev1.Tool{
		Name: row.Name, Description: row.Description, InputSchema: row.InputSchema, Source: row.Source, Annotations: row.Annotations, Digest: row.Digest,
		CreatedAt: timestamppb.New(row.CreatedAt), UpdatedAt: timestamppb.New(row.UpdatedAt),
	}
}

// maxTools is how many tools one tenant may register.
const maxTools = 1000

// toolsOf reads what a policy bundle says of tools.
func toolsOf(ctx context.Context, q *controldb.Queries, tenant uuid.UUID) ([]*configv1.ToolSchema, error) {
	rows, err := q.Tools(ctx, controldb.ToolsParams{TenantID: tenant, Lim: maxTools + 1})
	if err != nil {
		return nil, fmt.Errorf("read tools: %w", err)
	}
	if len(rows) > maxTools {
		return nil, fault.New(fault.Exhausted, "a tenant has at most %d tools", maxTools).WithReason("TOO_MANY_TOOLS")
	}
	out := make([]*configv1.ToolSchema, len(rows))
	for i, row := range rows {
		out[i] = &configv1.ToolSchema{Name: row.Name, InputSchema: row.InputSchema}
	}
	return out, nil
}
