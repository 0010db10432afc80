package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulcrum-io/fulcrum/test/internal/door"
)

// A tenant that asks with another's ids hears that there is no such thing, or
// sees its own. Every method that is served is asked, so a new one cannot be
// forgotten; and asked twice, with another's ids and with ids that nobody has:
// the answers must not tell which is which.
func TestAnotherTenantsIDsOpenNothing(t *testing.T) {
	t.Parallel()
	theirs := furnish(t, stack.Tenant(t, "theirs"))
	mine := stack.Tenant(t, "mine")
	nobodys := theirs.replaced()
	db := stack.Database(t)
	theirs.awaitEvents(t, db)
	before := theirs.fingerprint(t, db)

	rows := walk()
	conn := mine.Owner.Conn
	for _, m := range served(t, conn) {
		row, ok := rows[door.Path(m)]
		if !ok {
			t.Errorf("%s is served, and the walk does not know it", m.FullName())
			continue
		}
		t.Run(string(m.FullName()), func(t *testing.T) {
			for _, make := range row.requests {
				asked, control := make(theirs), make(nobodys)
				if m.IsStreamingServer() {
					walkStream(t, conn, m, row, asked, control)
					continue
				}
				for _, d := range []door.Door{doors()[0], doors()[1], doors()[4]} { // gRPC, Connect JSON, REST
					if !d.Serves(m) {
						continue
					}
					walkUnary(t, d, mine.Owner.Key, m, row, theirs, asked, control)
				}
			}
			walkNamed(t, doors()[0], mine.Owner.Key, m, row.requests[0](theirs), theirs.tenant)
		})
	}
	if after := theirs.fingerprint(t, db); after != before {
		t.Errorf("the walk changed what is theirs:\nbefore %s\nafter  %s", before, after)
	}
}

func walkUnary(t *testing.T, d door.Door, key string, m protoreflect.MethodDescriptor, row row, theirs *belongings, asked, control proto.Message) {
	t.Helper()
	a, err := d.Call(t.Context(), key, door.Path(m), fresh(asked))
	if err != nil {
		t.Error(err)
		return
	}
	if !slices.Contains(row.want, a.Code) {
		t.Errorf("%s: %s, want one of %v", d.Name, a, row.want)
	}
	if what := theirs.shownIn(a.Message, asked); what != "" {
		t.Errorf("%s: the refusal tells %s: %s", d.Name, what, a)
	}
	if a.Code == codes.OK {
		if what := theirs.shownIn(text(a.Body), asked); what != "" {
			t.Errorf("%s: the answer shows %s: %v", d.Name, what, a.Body)
		}
		if row.check != nil {
			if err := row.check(a.Body); err != nil {
				t.Errorf("%s: %v", d.Name, err)
			}
		}
	}
	if !proto.Equal(asked, control) {
		walkControl(t, d, key, m, a, control)
	}
}

// walkControl asks for what nobody has: the answer must not differ.
func walkControl(t *testing.T, d door.Door, key string, m protoreflect.MethodDescriptor, a door.Answer, control proto.Message) {
	t.Helper()
	known, err := d.Call(t.Context(), key, door.Path(m), fresh(control))
	if err != nil {
		t.Error(err)
		return
	}
	if a.Code != known.Code || a.Reason != known.Reason {
		t.Errorf("%s: %s for theirs, but %s for nobody's", d.Name, a, known)
		return
	}
	if a.Code == codes.OK && shape(a.Body) != shape(known.Body) {
		t.Errorf("%s: the answer for theirs has other fields than for nobody's:\n%s\n%s", d.Name, shape(a.Body), shape(known.Body))
	}
}

// walkNamed names the other tenant wherever a request can name one.
func walkNamed(t *testing.T, d door.Door, key string, m protoreflect.MethodDescriptor, req proto.Message, tenant string) {
	t.Helper()
	req = fresh(req)
	if !nameTenant(req.ProtoReflect(), tenant, 0) || m.IsStreamingServer() {
		return
	}
	a, err := d.Call(t.Context(), key, door.Path(m), req)
	if err != nil {
		t.Error(err)
	} else if a.Code != codes.PermissionDenied {
		t.Errorf("naming their tenant: %s", a)
	}
}

// walkStream expects of a stream what walkUnary does of a call; a stream that is
// silent shows nothing.
func walkStream(t *testing.T, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, row row, asked, control proto.Message) {
	t.Helper()
	for whose, req := range map[string]proto.Message{"theirs": asked, "nobody's": control} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := openStream(ctx, conn, m, req)
		cancel()
		if !slices.Contains(row.want, status.Code(err)) {
			t.Errorf("the stream of %s ends with %v, want one of %v", whose, err, row.want)
		}
	}
}
