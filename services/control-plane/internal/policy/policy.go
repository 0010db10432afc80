// Package policy keeps policies: their content, their versions, and which of
// them are in force.
package policy

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/mask"
)

// ApproveScope is what putting a policy into force takes, and everything else
// that changes what is in force.
const ApproveScope = "policy:approve"

// Filter selects policies; the zero Filter selects all.
type Filter struct {
	Status   policyv1.PolicyStatus
	RuleType policyv1.RuleType
}

// Position is a place in a list: after the policy it describes.
type Position struct {
	Priority int32     `json:"p"`
	ID       uuid.UUID `json:"i"`
}

// Store keeps policies. Each change is one transaction that also publishes the
// tenant's next policy bundle and records what happened.
type Store interface {
	// Replay restores the answer that once was given into answer. It returns
	// false if the call is new, and a Conflict if its key stands for another.
	Replay(ctx context.Context, tenant uuid.UUID, once change.Once, answer proto.Message) (bool, error)
	// CreatePolicy stores version 1 under an id of its own. Repeated, it returns
	// what it returned the first time, with the same Conflict.
	CreatePolicy(ctx context.Context, by identity.Principal, p *policyv1.Policy, once change.Once, note Note) (*policyv1.Policy, error)
	// Policy returns the current version, or NotFound.
	Policy(ctx context.Context, tenant, id uuid.UUID) (*policyv1.Policy, error)
	// ReplacePolicy puts next in the place of old, as a new version if the
	// content differs and note does not say that it is stored. It returns the
	// version of the policy set with it, and a Conflict, changing nothing, if the
	// stored policy is not old any more.
	ReplacePolicy(ctx context.Context, by identity.Principal, old, next *policyv1.Policy, note Note) (*policyv1.Policy, int64, error)
	// AddVersion stores next as a version of old, which stays as it is, with the
	// same Conflict.
	AddVersion(ctx context.Context, by identity.Principal, old, next *policyv1.Policy) (*policyv1.Policy, error)
	// Version returns a version of a policy, which may be Newest, or NotFound.
	Version(ctx context.Context, tenant, id uuid.UUID, version int64) (*lifecyclev1.PolicyVersion, error)
	// Versions returns up to limit versions below one, newest first; 0 is all.
	Versions(ctx context.Context, tenant, id uuid.UUID, before int64, limit int) ([]*lifecyclev1.PolicyVersion, error)
	// FormerVersion is the last version but now that was in force; or wanted, if
	// it ever was. It returns a Precondition fault if there is none such.
	FormerVersion(ctx context.Context, tenant, id uuid.UUID, now, wanted int64) (int64, error)
	// Activations returns up to limit entries below a revision, newest first.
	Activations(ctx context.Context, tenant, id uuid.UUID, before int64, limit int) ([]Activation, error)
	// PutShadow puts p's version in shadow for a share of the decisions in
	// hundredths of a percent, instead of another version of it if there is one,
	// and returns the version of the policy set with it.
	PutShadow(ctx context.Context, by identity.Principal, p *policyv1.Policy, share int32) (*lifecyclev1.PolicyShadow, int64, error)
	// DropShadow returns whether there was one.
	DropShadow(ctx context.Context, by identity.Principal, id uuid.UUID) (bool, error)
	// Shadows returns those that run.
	Shadows(ctx context.Context, tenant uuid.UUID) ([]*lifecyclev1.PolicyShadow, error)
	// ImportPolicies stores each Next as a new policy, or as a version of its Old
	// with the same Conflict, and notes from when they are: all or none. It
	// returns them as stored; Outdated if one came from a later bundle already.
	ImportPolicies(ctx context.Context, by identity.Principal, from Source, all []Taken) ([]*policyv1.Policy, error)
	// Importable returns what ImportPolicies would say of the names.
	Importable(ctx context.Context, tenant uuid.UUID, from Source, names []string) error
	// DeletePolicy ends old, with the same Conflict.
	DeletePolicy(ctx context.Context, by identity.Principal, old *policyv1.Policy) error
	// Policies returns up to limit policies after a position, highest priority
	// first, and how many there are in all.
	Policies(ctx context.Context, tenant uuid.UUID, f Filter, after *Position, limit int) ([]*policyv1.Policy, int32, error)
}

// Engine judges policies by the one compiler that will run them. It returns Down
// if it cannot tell.
type Engine interface {
	// Check returns an Invalid fault with every problem's place if p does not
	// compile.
	Check(ctx context.Context, p *policyv1.Policy) error
	// Test runs p's tests. That some fail, or that p does not compile, is in the
	// answer and no error.
	Test(ctx context.Context, p *policyv1.Policy) (*lifecyclev1.TestPolicyResponse, error)
	// Lint returns whatever there is to say of p.
	Lint(ctx context.Context, p *policyv1.Policy) (*lifecyclev1.LintPolicyResponse, error)
}

// Service is what may be done with policies.
type Service struct {
	store  Store
	engine Engine
}

// New returns a Service that stores nothing engine has not accepted.
func New(store Store, engine Engine) *Service { return &Service{store: store, engine: engine} }

// Create stores a draft, or a policy in force if that is what it says.
func (s *Service) Create(ctx context.Context, by identity.Principal, p *policyv1.Policy, once change.Once) (*policyv1.Policy, error) {
	var earlier policyv1.Policy
	if done, err := s.store.Replay(ctx, by.Tenant, once, &earlier); err != nil || done {
		return &earlier, err
	}
	p = proto.CloneOf(p)
	if p.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED {
		p.Status = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
	}
	Normalize(p)
	if err := Check(p); err != nil {
		return nil, err
	}
	switch p.GetStatus() {
	case policyv1.PolicyStatus_POLICY_STATUS_DRAFT:
	case policyv1.PolicyStatus_POLICY_STATUS_ACTIVE:
		if err := by.Can(ApproveScope); err != nil {
			return nil, err
		}
	default:
		return nil, fault.Field("policy.status", "a new policy is DRAFT or ACTIVE")
	}
	note, err := s.admit(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.store.CreatePolicy(ctx, by, p, once, note)
}

// admit refuses content that does not compile, and puts nothing into force whose
// tests fail.
func (s *Service) admit(ctx context.Context, p *policyv1.Policy) (Note, error) {
	if !InForce(p) {
		return Note{}, s.engine.Check(ctx, p)
	}
	report, err := s.gate(ctx, p, 0)
	return Note{TestsPassed: int32(len(report.GetResults()))}, err
}

// Policy returns the newest version of a policy.
func (s *Service) Policy(ctx context.Context, tenant, id uuid.UUID) (*policyv1.Policy, error) {
	return s.store.Policy(ctx, tenant, id)
}

// Policies returns up to limit policies after a position, and how many there
// are in all.
func (s *Service) Policies(ctx context.Context, tenant uuid.UUID, f Filter, after *Position, limit int) ([]*policyv1.Policy, int32, error) {
	return s.store.Policies(ctx, tenant, f, after, limit)
}

// attempts is how often a change without an etag is applied again to what
// another change has left.
const attempts = 5

// Update applies patch to the policy it names. With an etag in patch it is a
// Conflict if the policy has changed since that etag; without one the patch
// applies to whatever is there. A patch that changes nothing makes no version.
func (s *Service) Update(ctx context.Context, by identity.Principal, patch *policyv1.Policy, paths []string) (*policyv1.Policy, error) {
	id, err := uuid.Parse(patch.GetPolicyId())
	if err != nil {
		return nil, fault.Field("policy.policy_id", "must be a UUID")
	}
	for range attempts {
		var old, next *policyv1.Policy
		var note Note
		if old, err = s.store.Policy(ctx, by.Tenant, id); err != nil {
			return nil, err
		}
		if patch.GetEtag() != "" && patch.GetEtag() != old.GetEtag() {
			return nil, change.Stale("policy")
		}
		if next, note, err = s.next(ctx, by, old, patch, paths); err != nil {
			return nil, err
		}
		if proto.Equal(old, next) {
			return old, nil
		}
		next, _, err = s.store.ReplacePolicy(ctx, by, old, next, note)
		if err == nil || !errors.Is(err, fault.Conflict) || patch.GetEtag() != "" {
			return next, err
		}
	}
	return nil, err
}

// next is the policy that patch makes of old, if by may make it.
func (s *Service) next(ctx context.Context, by identity.Principal, old, patch *policyv1.Policy, paths []string) (*policyv1.Policy, Note, error) {
	if old.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED {
		return nil, Note{}, archived()
	}
	next := proto.CloneOf(old)
	if err := mask.Apply(next, patch, paths, mutable); err != nil {
		return nil, Note{}, err
	}
	if patch.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED && slices.Contains(paths, "*") {
		next.Status = old.GetStatus() // new content as a whole says nothing of the status
	}
	Normalize(next)
	if err := Check(next); err != nil {
		return nil, Note{}, err
	}
	if err := move(old.GetStatus(), next.GetStatus()); err != nil {
		return nil, Note{}, err
	}
	changed := !proto.Equal(old, next)
	if changed && (InForce(old) || InForce(next)) {
		if err := by.Can(ApproveScope); err != nil {
			return nil, Note{}, err
		}
	}
	if !proto.Equal(Content(old), Content(next)) || InForce(next) && !InForce(old) {
		note, err := s.admit(ctx, next)
		return next, note, err
	}
	return next, Note{}, nil
}

// Delete ends a policy for good. Its versions stay, for the record.
func (s *Service) Delete(ctx context.Context, by identity.Principal, id uuid.UUID) error {
	var err error
	for range attempts {
		var old *policyv1.Policy
		if old, err = s.store.Policy(ctx, by.Tenant, id); err != nil {
			return err
		}
		if InForce(old) {
			if err := by.Can(ApproveScope); err != nil {
				return err
			}
		}
		if err = s.store.DeletePolicy(ctx, by, old); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return err
}

// InForce reports whether p decides. A nil policy does not.
func InForce(p *policyv1.Policy) bool {
	return p.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
}
