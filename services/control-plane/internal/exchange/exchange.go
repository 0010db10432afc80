package exchange

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
)

// Service exports and imports policies.
type Service struct {
	policies *policy.Service
	key      note.Signer // nil: nothing is exported
	trusted  []note.Verifier
}

// New returns a Service that signs with key and believes its own key and the
// trusted ones. Without a key nothing can be exported, without any of them
// nothing imported.
func New(policies *policy.Service, key string, trusted []string) (*Service, error) {
	s := &Service{policies: policies}
	for _, text := range trusted {
		v, err := note.NewVerifier(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("trusted key %q: %w", clip(text), err)
		}
		s.trusted = append(s.trusted, v)
	}
	if key == "" {
		return s, nil
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err) // its text does not hold the key
	}
	own, err := verifier(key)
	if err != nil {
		return nil, err
	}
	s.key, s.trusted = signer, append(s.trusted, own)
	return s, nil
}

const maxPolicies = 1000

// Export returns the policies with these ids, or every one that is not archived,
// as a signed bundle.
func (s *Service) Export(ctx context.Context, by identity.Principal, ids []string) (*lifecyclev1.ExportPoliciesResponse, error) {
	if s.key == nil {
		return nil, fault.New(fault.Precondition, "this deployment signs no policies").
			WithReason("NO_SIGNING_KEY").WithHint("An operator sets FULCRUM_POLICY_SIGNING_KEY; fulcrum keygen makes one.")
	}
	export := &lifecyclev1.PolicyExport{
		Format: format, TenantId: by.Tenant.String(), ExportedAt: timestamppb.New(time.Now().UTC().Truncate(time.Second)), ExportedBy: by.Actor(),
	}
	all, err := s.chosen(ctx, by.Tenant, ids)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		export.Policies = append(export.Policies, portable(p))
	}
	bundle, err := seal(s.key, export)
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.ExportPoliciesResponse{Bundle: bundle, KeyName: s.key.Name(), Policies: int32(len(all))}, nil
}

func (s *Service) chosen(ctx context.Context, tenant uuid.UUID, ids []string) (out []*policyv1.Policy, err error) {
	for i, text := range ids {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, fault.Field(fmt.Sprintf("policy_ids[%d]", i), "must be a UUID")
		}
		p, err := s.policies.Policy(ctx, tenant, id)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(ids) > 0 {
		return out, nil
	}
	all, total, err := s.policies.Policies(ctx, tenant, policy.Filter{}, nil, maxPolicies)
	if err != nil {
		return nil, err
	}
	if int(total) > len(all) {
		return nil, fault.Field("policy_ids", "the tenant has %d policies, more than the %d of a bundle: choose", total, maxPolicies)
	}
	for _, p := range all {
		if p.GetStatus() != policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED {
			out = append(out, p)
		}
	}
	return out, nil
}

// portable is what a policy means anywhere: its content, tests included.
func portable(p *policyv1.Policy) *policyv1.Policy { return policy.Content(p) }

// Import verifies a bundle and takes over its policies by their names: new ones
// as drafts, others as next versions beside the one in force; all of them, or
// none. A repeated import changes nothing. A bundle that is older than one that
// was taken from the same source would undo what was changed since, and is
// refused unless older ones are allowed.
func (s *Service) Import(ctx context.Context, by identity.Principal, req *lifecyclev1.ImportPoliciesRequest) (*lifecyclev1.ImportPoliciesResponse, error) {
	if len(s.trusted) == 0 {
		return nil, fault.New(fault.Precondition, "this deployment trusts no key").
			WithReason("NO_TRUSTED_KEYS").WithHint("An operator sets FULCRUM_POLICY_TRUSTED_KEYS.")
	}
	export, key, err := open(s.trusted, req.GetBundle())
	if err != nil {
		return nil, err
	}
	from := policy.Source{Name: key + "/" + export.GetTenantId(), ExportedAt: export.GetExportedAt().AsTime(), AllowOlder: req.GetAllowOlder()}
	out := &lifecyclev1.ImportPoliciesResponse{KeyName: key}
	if req.GetDryRun() {
		steps, err := s.plan(ctx, by.Tenant, export)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, st := range steps {
			names, out.Policies = append(names, st.said.GetName()), append(out.Policies, st.said)
		}
		return out, s.policies.Importable(ctx, by, from, names)
	}
	stored, err := s.policies.Import(ctx, by, from, func() ([]policy.Taken, error) {
		steps, err := s.plan(ctx, by.Tenant, export)
		out.Policies = nil
		var all []policy.Taken
		for _, st := range steps {
			out.Policies = append(out.Policies, st.said)
			t := policy.Taken{Old: st.have, Next: st.want, Name: st.said.GetName()}
			if st.said.GetChange() == unchanged {
				t.Next = nil
			}
			all = append(all, t)
		}
		return all, err
	})
	if err != nil {
		return nil, err
	}
	for i, p := range stored {
		if said := out.GetPolicies()[i]; said.GetChange() != unchanged {
			said.PolicyId, said.Version = p.GetPolicyId(), p.GetVersion()
		}
	}
	return out, nil
}

// step is what is to be done with one policy.
type step struct {
	want *policyv1.Policy
	have *policyv1.Policy // what it is a version of; nil: it is new
	said *lifecyclev1.ImportedPolicy
}

// What a step does.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
)

func (s *Service) plan(ctx context.Context, tenant uuid.UUID, export *lifecyclev1.PolicyExport) ([]step, error) {
	live, err := s.chosen(ctx, tenant, nil)
	if err != nil {
		return nil, err
	}
	var steps []step
	seen := map[string]bool{}
	for i, p := range export.GetPolicies() {
		field := fmt.Sprintf("bundle.policies[%d]", i)
		p = policy.Content(p)
		policy.Normalize(p)
		if seen[p.GetName()] {
			return nil, fault.Field(field, "the bundle has two policies called %q", p.GetName())
		}
		seen[p.GetName()] = true
		if err := s.policies.Acceptable(ctx, p); err != nil {
			return nil, err
		}
		st := step{want: p, said: &lifecyclev1.ImportedPolicy{Name: p.GetName(), Change: created}}
		for _, have := range live {
			if have.GetName() != p.GetName() {
				continue
			}
			if st.said.GetPolicyId() != "" {
				return nil, fault.Field(field, "the tenant has several policies called %q: rename all but one", p.GetName())
			}
			newest, err := s.policies.Version(ctx, tenant, uuid.MustParse(have.GetPolicyId()), policy.Newest)
			if err != nil {
				return nil, err
			}
			st.have = have
			st.said.PolicyId, st.said.Change, st.said.Version = have.GetPolicyId(), updated, newest.GetPolicy().GetVersion()
			if policy.SameContent(newest.GetPolicy(), p) {
				st.said.Change = unchanged
			}
		}
		steps = append(steps, st)
	}
	return steps, nil
}

// verifier is the public side of a private key, as note writes them.
func verifier(key string) (note.Verifier, error) {
	public, err := publicOf(key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(public)
}
