package policy_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

// Whatever bytes are in the store as a tenant's bundle: compiling them gives a
// set or an error, and a set decides.
func FuzzBundle(f *testing.F) {
	for _, seed := range []*configv1.PolicyBundle{
		workload.Bundle("t", 1, workload.Mixed(10)),
		regoBundle("package fulcrum.policy\n\ndeny contains \"x\" if input.a\n"), {},
	} {
		content, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		b := &configv1.PolicyBundle{}
		if proto.Unmarshal(content, b) != nil {
			return
		}
		b.TenantId = "t"
		set, err := policy.NewCompiler(nil).Compile("t", b)
		if set == nil && err == nil {
			t.Fatal("neither a set nor an error")
		}
		if set == nil {
			return
		}
		got, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
		if err != nil || got.GetDecision() == 0 {
			t.Errorf("decided %v, %v", got.GetDecision(), err)
		}
	})
}
