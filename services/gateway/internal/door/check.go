package door

import (
	"context"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
)

// Check refuses a request that names another tenant than its credential's, or
// has text or numbers that cannot be stored. What the .proto says about the request is
// checked after this, by rpc.Validate.
func Check(ctx context.Context, req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	p, err := identity.From(ctx)
	if err != nil {
		return err
	}
	c := checker{tenant: p.Tenant.String(), admin: p.Admin}
	c.message("", m.ProtoReflect(), 0)
	if len(c.violations) > 0 {
		return fault.Fields(c.violations...).WithReason("VALIDATION_FAILED")
	}
	if c.foreign != "" {
		return fault.New(fault.Denied, "%s is not this credential's tenant", c.foreign).
			WithReason("TENANT_MISMATCH").
			WithViolation(c.foreign, "must be empty or the credential's own tenant").
			WithHint("Leave the field out: the tenant comes from the credential.")
	}
	return nil
}

// tenantDepth is how deep in a request a tenant_id speaks of the caller. The
// deepest is in EvaluatePolicy's context, in events of a batch, in a budget.
const tenantDepth = 2

type checker struct {
	tenant     string
	admin      bool
	foreign    string // path of the first tenant_id that is another's
	violations []fault.Violation
}

func (c *checker) message(path string, m protoreflect.Message, depth int) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + string(f.Name())
		switch {
		case f.IsMap():
			c.mapping(at, f, v.Map(), depth)
		case f.IsList():
			list := v.List()
			for i := range list.Len() {
				c.value(fmt.Sprintf("%s[%d]", at, i), f, list.Get(i), depth)
			}
		default:
			c.value(at, f, v, depth)
		}
		return len(c.violations) < 20
	})
}

func (c *checker) mapping(at string, f protoreflect.FieldDescriptor, m protoreflect.Map, depth int) {
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if f.MapKey().Kind() == protoreflect.StringKind {
			c.text(at, k.String())
		}
		c.value(fmt.Sprintf("%s[%q]", at, clean(k.String())), f.MapValue(), v, depth)
		return len(c.violations) < 20
	})
}

func (c *checker) value(at string, f protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		c.message(at+".", v.Message(), depth+1)
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		if n := v.Float(); math.IsNaN(n) || math.IsInf(n, 0) {
			c.violations = append(c.violations, fault.Violation{Field: at, Description: "must be a finite number"})
		}
	case protoreflect.StringKind:
		c.text(at, v.String())
		if f.Name() == "tenant_id" && depth < tenantDepth && c.foreign == "" && !c.admin && !strings.EqualFold(v.String(), c.tenant) && v.String() != "" {
			c.foreign = at
		}
	}
}

// text refuses NUL, which PostgreSQL has no place for.
func (c *checker) text(at, s string) {
	if strings.IndexByte(s, 0) >= 0 {
		c.violations = append(c.violations, fault.Violation{Field: at, Description: "must not contain the character NUL"})
	}
}

// clean makes a key fit to be shown in an error.
func clean(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.ToValidUTF8(s, "?")
}
