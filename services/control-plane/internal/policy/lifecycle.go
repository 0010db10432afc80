package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/mask"
)

// Move is what a change does to what is in force.
type Move string

// The moves that the history knows.
const (
	Activated   Move = "activate"
	Edited      Move = "edit"
	RolledBack  Move = "rollback"
	Deactivated Move = "deactivate"
	Deleted     Move = "delete"
)

// Note is what the history keeps of a change besides the change itself.
type Note struct {
	Action      Move // "" : whatever the change turns out to be
	Reason      string
	TestsPassed int32
	// Stored: the content is a version that is stored already, so the pointer
	// moves there and no version is made.
	Stored bool
}

// Activation is an entry of the history, and its place in it.
type Activation struct {
	Revision int64
	Entry    *lifecyclev1.PolicyActivation
}

// Newest names the newest version, wherever the pointer is.
const Newest = -1

// gate refuses to put p into force if it does not compile, a test of it fails,
// or the tests reach less of it than they must. It returns the tests' report,
// nil if there are none to run.
func (s *Service) gate(ctx context.Context, p *policyv1.Policy, minCoverage float64) (*lifecyclev1.TestPolicyResponse, error) {
	if err := s.engine.Check(ctx, p); err != nil {
		return nil, err
	}
	if len(p.GetTests()) == 0 && minCoverage == 0 {
		return nil, nil
	}
	report, err := s.engine.Test(ctx, p)
	if err != nil {
		return nil, err
	}
	var wrong []fault.Violation
	for i, r := range report.GetResults() {
		if !r.GetPassed() {
			wrong = append(wrong, fault.Violation{
				Field: fmt.Sprintf("policy.tests[%d]", i), Description: fmt.Sprintf("test %q: %s", r.GetName(), strings.Join(r.GetFailures(), "; ")),
			})
		}
	}
	if len(wrong) > 0 || !report.GetPassed() {
		return report, fault.Fields(wrong...).WithReason("POLICY_TESTS_FAILED").
			WithHint("Nothing was changed. What is in force stays in force until the policy's tests pass.")
	}
	if percent := report.GetCoverage().GetPercent(); percent < minCoverage {
		return report, fault.Fields(fault.Violation{
			Field: "min_coverage_percent", Description: fmt.Sprintf("the tests reach %.0f %% of the policy, less than %.0f %%", percent, minCoverage),
		}).WithReason("POLICY_COVERAGE_TOO_LOW").WithHint("Nothing was changed. Add tests for the rules that none reaches.")
	}
	return report, nil
}

// Test runs the tests of p, or of a stored version if p is nil.
func (s *Service) Test(ctx context.Context, tenant uuid.UUID, p *policyv1.Policy, id uuid.UUID, version int64) (*lifecyclev1.TestPolicyResponse, error) {
	p, err := s.given(ctx, tenant, p, id, version)
	if err != nil {
		return nil, err
	}
	return s.engine.Test(ctx, p)
}

// Lint says what is wrong with p, or with a stored version if p is nil.
func (s *Service) Lint(ctx context.Context, tenant uuid.UUID, p *policyv1.Policy, id uuid.UUID, version int64) (*lifecyclev1.LintPolicyResponse, error) {
	p, err := s.given(ctx, tenant, p, id, version)
	if err != nil {
		return nil, err
	}
	return s.engine.Lint(ctx, p)
}

func (s *Service) given(ctx context.Context, tenant uuid.UUID, p *policyv1.Policy, id uuid.UUID, version int64) (*policyv1.Policy, error) {
	switch {
	case p != nil:
		p = proto.CloneOf(p)
		Normalize(p)
		return p, checkTests(p)
	case version == 0:
		return s.store.Policy(ctx, tenant, id)
	}
	v, err := s.store.Version(ctx, tenant, id, version)
	return v.GetPolicy(), err
}

// AddVersion stores patch applied to the newest version as the next one, and
// leaves in force what is. Content that is the newest already makes none.
func (s *Service) AddVersion(ctx context.Context, by identity.Principal, patch *policyv1.Policy, paths []string) (*lifecyclev1.PolicyVersion, error) {
	id, err := uuid.Parse(patch.GetPolicyId())
	if err != nil {
		return nil, fault.Field("policy.policy_id", "must be a UUID")
	}
	for range attempts {
		var old *policyv1.Policy
		if old, err = s.store.Policy(ctx, by.Tenant, id); err != nil {
			return nil, err
		}
		if patch.GetEtag() != "" && patch.GetEtag() != old.GetEtag() {
			return nil, change.Stale("policy")
		}
		if old.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED {
			return nil, archived()
		}
		newest, err := s.store.Version(ctx, by.Tenant, id, Newest)
		if err != nil {
			return nil, err
		}
		next := proto.CloneOf(newest.GetPolicy())
		if err := mask.Apply(next, patch, paths, mutable); err != nil {
			return nil, err
		}
		next.Status = old.GetStatus()
		Normalize(next)
		if err := Check(next); err != nil {
			return nil, err
		}
		if proto.Equal(Content(newest.GetPolicy()), Content(next)) {
			return newest, nil
		}
		if err := s.engine.Check(ctx, next); err != nil {
			return nil, err
		}
		stored, err := s.store.AddVersion(ctx, by, old, next)
		if err == nil {
			return &lifecyclev1.PolicyVersion{Policy: stored, CreatedBy: by.Actor(), CreatedAt: stored.GetUpdatedAt()}, nil
		}
		if !errors.Is(err, fault.Conflict) || patch.GetEtag() != "" {
			return nil, err
		}
	}
	return nil, change.Stale("policy")
}

// Acceptable returns why p could not be stored as a draft, nil if it could.
func (s *Service) Acceptable(ctx context.Context, p *policyv1.Policy) error {
	p = proto.CloneOf(p)
	p.Status = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
	if err := Check(p); err != nil {
		return err
	}
	return s.engine.Check(ctx, p)
}

// SameContent reports whether two policies say the same.
func SameContent(a, b *policyv1.Policy) bool { return proto.Equal(Content(a), Content(b)) }

// Versions returns up to limit versions below before, newest first; before 0 is
// from the newest on.
func (s *Service) Versions(ctx context.Context, tenant, id uuid.UUID, before int64, limit int) ([]*lifecyclev1.PolicyVersion, error) {
	return s.store.Versions(ctx, tenant, id, before, limit)
}

// Version returns one version.
func (s *Service) Version(ctx context.Context, tenant, id uuid.UUID, version int64) (*lifecyclev1.PolicyVersion, error) {
	return s.store.Version(ctx, tenant, id, version)
}

// Activations returns up to limit entries of a policy's history below a
// revision, newest first; 0 is from the newest on.
func (s *Service) Activations(ctx context.Context, tenant, id uuid.UUID, before int64, limit int) ([]Activation, error) {
	return s.store.Activations(ctx, tenant, id, before, limit)
}

// Activate puts a version into force: 0 is the one the pointer is at. What is in
// force already stays, and the answer has no set version then.
func (s *Service) Activate(ctx context.Context, by identity.Principal, req *lifecyclev1.ActivatePolicyRequest) (*lifecyclev1.ActivatePolicyResponse, error) {
	id, err := uuid.Parse(req.GetPolicyId())
	if err != nil {
		return nil, fault.Field("policy_id", "must be a UUID")
	}
	old, next, err := s.target(ctx, by, id, req.GetEtag(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	if proto.Equal(old, next) {
		return &lifecyclev1.ActivatePolicyResponse{Policy: old}, nil
	}
	report, err := s.gate(ctx, next, req.GetMinCoveragePercent())
	if err != nil {
		return nil, err
	}
	stored, set, err := s.store.ReplacePolicy(ctx, by, old, next, Note{
		Action: Activated, Reason: req.GetReason(), TestsPassed: int32(len(report.GetResults())), Stored: true,
	})
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.ActivatePolicyResponse{Policy: stored, PolicySetVersion: set, Tests: report}, nil
}

// RollBack puts a version back into force that was before. It is for the moment
// when something is on fire: neither tests nor an engine that is away stop it.
func (s *Service) RollBack(ctx context.Context, by identity.Principal, req *lifecyclev1.RollBackPolicyRequest) (*lifecyclev1.RollBackPolicyResponse, error) {
	id, err := uuid.Parse(req.GetPolicyId())
	if err != nil {
		return nil, fault.Field("policy_id", "must be a UUID")
	}
	now, err := s.store.Policy(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	version, err := s.store.FormerVersion(ctx, by.Tenant, id, now.GetVersion(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	old, next, err := s.target(ctx, by, id, req.GetEtag(), version)
	if err != nil {
		return nil, err
	}
	if proto.Equal(old, next) {
		return &lifecyclev1.RollBackPolicyResponse{Policy: old}, nil
	}
	if err := s.engine.Check(ctx, next); err != nil && !errors.Is(err, fault.Down) {
		return nil, err
	}
	stored, set, err := s.store.ReplacePolicy(ctx, by, old, next, Note{Action: RolledBack, Reason: req.GetReason(), Stored: true})
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.RollBackPolicyResponse{Policy: stored, PolicySetVersion: set}, nil
}

// target is the policy as it is, and as it would be with a version in force.
func (s *Service) target(ctx context.Context, by identity.Principal, id uuid.UUID, etag string, version int64) (old, next *policyv1.Policy, err error) {
	if err := by.Can(ApproveScope); err != nil {
		return nil, nil, err
	}
	if old, err = s.store.Policy(ctx, by.Tenant, id); err != nil {
		return nil, nil, err
	}
	if etag != "" && etag != old.GetEtag() {
		return nil, nil, change.Stale("policy")
	}
	if old.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED {
		return nil, nil, archived()
	}
	next = proto.CloneOf(old)
	if version != 0 && version != old.GetVersion() {
		v, err := s.store.Version(ctx, by.Tenant, id, version)
		if err != nil {
			return nil, nil, err
		}
		next = v.GetPolicy()
	}
	next.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
	next.Etag, next.UpdatedAt = old.GetEtag(), old.GetUpdatedAt()
	if err := move(old.GetStatus(), next.GetStatus()); err != nil {
		return nil, nil, err
	}
	return old, next, Check(next)
}

func archived() error {
	return fault.New(fault.Precondition, "an archived policy cannot be changed").
		WithReason("POLICY_ARCHIVED").WithHint("Create a new policy with its content.")
}

// StartShadow lets a version judge beside the answer: 0 is the newest.
func (s *Service) StartShadow(ctx context.Context, by identity.Principal, req *lifecyclev1.StartPolicyShadowRequest) (*lifecyclev1.PolicyShadow, int64, error) {
	id, err := uuid.Parse(req.GetPolicyId())
	if err != nil {
		return nil, 0, fault.Field("policy_id", "must be a UUID")
	}
	share := int32(req.GetPercent()*100 + 0.5)
	if share < 1 || share > 10_000 {
		return nil, 0, fault.Field("percent", "must be from 0.01 to 100")
	}
	version := req.GetVersion()
	if version == 0 {
		version = Newest
	}
	v, err := s.store.Version(ctx, by.Tenant, id, version)
	if err != nil {
		return nil, 0, err
	}
	p := v.GetPolicy()
	switch {
	case p.GetStatus() == policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED:
		return nil, 0, archived()
	case v.GetCurrent() && InForce(p):
		return nil, 0, fault.New(fault.Precondition, "version %d of the policy is in force: there would be nothing to compare", p.GetVersion()).
			WithReason("VERSION_IN_FORCE").WithHint("Store a next version first, or put a draft in shadow.")
	}
	if err := s.engine.Check(ctx, p); err != nil {
		return nil, 0, err
	}
	return s.store.PutShadow(ctx, by, p, share)
}

// StopShadow ends a shadow and returns whether there was one.
func (s *Service) StopShadow(ctx context.Context, by identity.Principal, id uuid.UUID) (bool, error) {
	if _, err := s.store.Policy(ctx, by.Tenant, id); err != nil {
		return false, err
	}
	return s.store.DropShadow(ctx, by, id)
}

// Shadows returns those of the tenant that run.
func (s *Service) Shadows(ctx context.Context, tenant uuid.UUID) ([]*lifecyclev1.PolicyShadow, error) {
	return s.store.Shadows(ctx, tenant)
}
