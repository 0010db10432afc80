package policy

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Source is where a bundle of policies is from.
type Source struct {
	Name       string // who signed it, and whose policies they were
	ExportedAt time.Time
	AllowOlder bool // although a later bundle of the source was taken already
}

// Taken is one policy of a bundle.
type Taken struct {
	Old  *policyv1.Policy // the policy it is a version of; nil: it is new
	Next *policyv1.Policy // nil: it is there already, the same
	Name string
}

// Outdated says that a bundle is older than what was taken from its source.
func Outdated(name string, since, exported time.Time) error {
	return fault.New(fault.Precondition, "policy %q was imported from an export of %s already, and this one is of %s: it may undo what was changed since",
		name, since.UTC().Format(time.RFC3339), exported.UTC().Format(time.RFC3339)).
		WithReason("BUNDLE_OUTDATED").WithMeta("policy_name", name).
		WithHint("Export anew and import that; or say that an older bundle is meant (allow_older, --allow-older).")
}

// Import takes policies over, all or none: new ones as drafts, others as next
// versions beside the one in force. wanted is asked again when something has
// changed meanwhile. It returns what is stored now, in the order of wanted.
func (s *Service) Import(ctx context.Context, by identity.Principal, from Source, wanted func() ([]Taken, error)) (stored []*policyv1.Policy, err error) {
	for range attempts {
		var all []Taken
		if all, err = wanted(); err != nil {
			return nil, err
		}
		for i, t := range all {
			if t.Next == nil {
				continue
			}
			next := proto.CloneOf(t.Next)
			next.Status = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
			if t.Old != nil {
				next.PolicyId, next.Status = t.Old.GetPolicyId(), t.Old.GetStatus()
			}
			all[i].Next = next
		}
		if stored, err = s.store.ImportPolicies(ctx, by, from, all); !errors.Is(err, fault.Conflict) {
			return stored, err
		}
	}
	return nil, err
}

// Importable returns nil if nothing of these names was taken from a later bundle
// of the source.
func (s *Service) Importable(ctx context.Context, by identity.Principal, from Source, names []string) error {
	return s.store.Importable(ctx, by.Tenant, from, names)
}
