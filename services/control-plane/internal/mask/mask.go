// Package mask applies partial updates to messages.
package mask

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Apply changes dst to what src says and returns what is wrong with paths.
//
// A path names a field, or a field of a field ("limits.max_cost_usd"), by its
// name or its JSON name, and sets it to what src has, be it empty. "*" is every
// mutable field. Without paths src is a merge patch: what is set in src is set
// in dst, messages field by field, lists and maps as a whole; fields that are
// not mutable are skipped, because callers send back what they read.
func Apply(dst, src proto.Message, paths []string, mutable map[string]bool) error {
	to, from := dst.ProtoReflect(), src.ProtoReflect()
	if len(paths) == 0 {
		merge(to, from, func(f protoreflect.FieldDescriptor) bool { return mutable[string(f.Name())] })
		return nil
	}
	var wrong []fault.Violation
	for i, path := range paths {
		if path == "*" {
			for name := range mutable {
				set(to, from, []string{name})
			}
			continue
		}
		names, err := resolve(from.Descriptor(), path, mutable)
		if err != nil {
			wrong = append(wrong, fault.Violation{Field: fmt.Sprintf("update_mask[%d]", i), Description: err.Error()})
			continue
		}
		set(to, from, names)
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong...).WithReason("UPDATE_MASK_INVALID")
	}
	return nil
}

func resolve(d protoreflect.MessageDescriptor, path string, mutable map[string]bool) ([]string, error) {
	parts := strings.Split(path, ".")
	names := make([]string, 0, len(parts))
	for i, part := range parts {
		f := d.Fields().ByName(protoreflect.Name(part))
		if f == nil {
			f = d.Fields().ByJSONName(part)
		}
		if f == nil {
			return nil, fmt.Errorf("%q is not a field", path)
		}
		if i == 0 && !mutable[string(f.Name())] {
			return nil, fmt.Errorf("%q is set by the server", path)
		}
		names = append(names, string(f.Name()))
		if i == len(parts)-1 {
			break
		}
		if !plain(f) {
			return nil, fmt.Errorf("%q reaches into a field that changes only as a whole", path)
		}
		d = f.Message()
	}
	return names, nil
}

func set(to, from protoreflect.Message, names []string) {
	f := from.Descriptor().Fields().ByName(protoreflect.Name(names[0]))
	if len(names) > 1 {
		set(to.Mutable(f).Message(), from.Get(f).Message(), names[1:])
		return
	}
	if from.Has(f) {
		to.Set(f, copied(from, f))
	} else {
		to.Clear(f)
	}
}

func merge(to, from protoreflect.Message, want func(protoreflect.FieldDescriptor) bool) {
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case want != nil && !want(f):
		case plain(f):
			merge(to.Mutable(f).Message(), v.Message(), nil)
		default:
			to.Set(f, copied(from, f))
		}
		return true
	})
}

// plain says that a field is one message of ours, to be changed field by field.
func plain(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && !f.IsList() && !f.IsMap() &&
		!strings.HasPrefix(string(f.Message().FullName()), "google.protobuf.")
}

// copied keeps dst from sharing memory with src.
func copied(m protoreflect.Message, f protoreflect.FieldDescriptor) protoreflect.Value {
	one := m.New()
	one.Set(f, m.Get(f))
	return proto.Clone(one.Interface()).ProtoReflect().Get(f)
}
