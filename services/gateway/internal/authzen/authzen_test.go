package authzen_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/authzen"
)

// Whatever is asked becomes an action with a name, or is refused as the
// caller's mistake; and a question never makes a bound key somebody else's.
func FuzzQuestion(f *testing.F) {
	for _, seed := range []string{
		`{"subject":{"type":"user","id":"a"},"action":{"name":"read"},"resource":{"type":"record","id":"1"}}`,
		`{"subject":{"type":"agent","id":"bound"},"action":{"name":"x","properties":{"a":{"b":[1,null]}}},"resource":{"type":"tool","id":"t"}}`,
		`{"subject":{"type":"agent","id":"other"},"action":{"name":"x"},"resource":{"type":"model","id":"m"},"context":{"fulcrum":{"dry_run":true}}}`,
		`{"evaluations":[{"subject":{"id":"x"}},5],"subject":{"type":"user"},"options":{"evaluations_semantic":"deny_on_first_deny"}}`,
	} {
		f.Add([]byte(seed))
	}
	bound := identity.Principal{Tenant: uuid.New(), AgentID: "bound"}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in authzen.Request
		if json.Unmarshal(body, &in) != nil || in.Check() != nil {
			return
		}
		all := []authzen.Evaluation{in.Evaluation}
		for i := range in.Evaluations {
			e, err := in.At(i)
			if err == nil {
				all = append(all, e)
			} else if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", body, err)
			}
		}
		for _, e := range all {
			req, as, err := e.Authorize(bound)
			if err != nil {
				if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Denied) {
					t.Fatalf("%q: %v", body, err)
				}
				continue
			}
			if as.AgentID != "bound" || as.Tenant != bound.Tenant || req.GetAction().GetName() == "" || req.GetAttributes()["subject.id"] != e.Subject.ID {
				t.Fatalf("%q became %v of %v", body, req, as)
			}
		}
	})
}
