// Package tool keeps the register of a tenant's tools.
package tool

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// Store keeps tools. Each change is one transaction that also publishes the
// tenant's policies and records what happened.
type Store interface {
	// PutTool stores a tool under its name and returns the policy-set version
	// that has it, 0 when it was there already, the same.
	PutTool(ctx context.Context, by identity.Principal, t *controlplanev1.Tool) (*controlplanev1.Tool, int64, error)
	// Tools returns up to limit tools after a name, by name.
	Tools(ctx context.Context, tenant uuid.UUID, after string, limit int) ([]*controlplanev1.Tool, error)
	// ImportTools carries out what plan makes of the tools that are there, in one
	// transaction. A dry run only plans. plan may be called again.
	ImportTools(ctx context.Context, by identity.Principal, dry bool,
		plan func(before map[string]*controlplanev1.Tool) []*controlplanev1.ToolChange) (int64, error)
	// DeleteTool removes a tool, or is NotFound.
	DeleteTool(ctx context.Context, by identity.Principal, name string) (int64, error)
}

// Checker says whether arguments can be checked by a schema: nil, an Invalid
// fault with what is wrong, or a Down fault when nobody can tell.
type Checker interface {
	CheckTool(ctx context.Context, schema string) error
}

// Service is what may be done with tools.
type Service struct {
	store Store
	check Checker
}

// New returns a Service over store that asks check about schemas.
func New(store Store, check Checker) *Service { return &Service{store, check} }

// Register stores a tool. A schema that the policy engine cannot use is not
// stored.
func (s *Service) Register(ctx context.Context, by identity.Principal, t *controlplanev1.Tool) (*controlplanev1.Tool, int64, error) {
	if t.GetName() != strings.TrimSpace(t.GetName()) || t.GetName() == "" {
		return nil, 0, fault.Field("tool.name", "must not be empty, or begin or end with a blank: actions name the tool exactly so")
	}
	if strings.ContainsRune(t.GetName()+t.GetDescription()+t.GetInputSchema(), 0) {
		return nil, 0, fault.Field("tool", "holds a zero byte")
	}
	if t.GetInputSchema() != "" {
		if err := s.check.CheckTool(ctx, t.GetInputSchema()); err != nil {
			return nil, 0, err
		}
	}
	return s.store.PutTool(ctx, by, t)
}

// Tools returns up to limit tools after a name.
func (s *Service) Tools(ctx context.Context, tenant uuid.UUID, after string, limit int) ([]*controlplanev1.Tool, error) {
	return s.store.Tools(ctx, tenant, after, limit)
}

// Delete makes a tool unknown.
func (s *Service) Delete(ctx context.Context, by identity.Principal, name string) (int64, error) {
	return s.store.DeleteTool(ctx, by, name)
}
