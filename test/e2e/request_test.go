package e2e

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// address fills the ids and the name of a request, so that it has a path over REST.
func address(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsList() || f.IsMap() || f.ContainingOneof() != nil:
		case f.Kind() == protoreflect.StringKind && (strings.HasSuffix(string(f.Name()), "_id") || depth == 0 && f.Name() == "name"):
			m.Set(f, protoreflect.ValueOfString(newKey()))
		case f.Message() != nil && depth < 1:
			address(m.Mutable(f).Message(), depth+1)
		}
	}
}

// fresh is a request with an idempotency key of its own.
func fresh(req proto.Message) proto.Message {
	req = proto.Clone(req)
	renew(req.ProtoReflect())
	return req
}

func renew(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				renew(v.List().Get(i).Message())
			}
		case f.IsList():
		case f.Message() != nil:
			renew(v.Message())
		case f.Name() == "idempotency_key":
			m.Set(f, protoreflect.ValueOfString(newKey()))
		}
		return true
	})
}

// nameTenant sets every tenant_id in a request, and reports whether there is one.
func nameTenant(m protoreflect.Message, tenant string, depth int) (named bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Name() == "tenant_id" && f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(tenant))
			named = true
		case depth < 1 && f.Message() != nil && !f.IsMap() && !f.IsList() && m.Has(f):
			named = nameTenant(m.Mutable(f).Message(), tenant, depth+1) || named
		}
	}
	return named
}

// shape is which fields of a message are set, without their values.
func shape(m proto.Message) string {
	paths := map[string]bool{}
	walkPaths(paths, "", m.ProtoReflect())
	var list []string
	for path := range paths {
		list = append(list, path)
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

func walkPaths(paths map[string]bool, prefix string, m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := prefix + string(f.Name())
		paths[path] = true
		switch {
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				walkPaths(paths, path+".", v.List().Get(i).Message())
			}
		default:
			walkPaths(paths, path+".", v.Message())
		}
		return true
	})
}
