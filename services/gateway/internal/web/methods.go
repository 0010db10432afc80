package web

import (
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// restMethods maps "POST /v1/envelopes/{envelope_id=*}:terminate" to the rpc it
// stands for, as the .proto files say.
func restMethods(services []string) map[string]string {
	methods := make(map[string]string)
	for _, name := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			continue // not one of ours
		}
		service, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			continue
		}
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
			for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
				if verb, path := binding(r); verb != "" {
					methods[verb+" "+captured(path)] = "/" + name + "/" + string(m.Name())
				}
			}
		}
	}
	return methods
}

func binding(r *annotations.HttpRule) (verb, path string) {
	switch p := r.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "GET", p.Get
	case *annotations.HttpRule_Put:
		return "PUT", p.Put
	case *annotations.HttpRule_Post:
		return "POST", p.Post
	case *annotations.HttpRule_Delete:
		return "DELETE", p.Delete
	case *annotations.HttpRule_Patch:
		return "PATCH", p.Patch
	}
	return "", ""
}

// captured writes a path as runtime.Pattern does: "{name=*}" for "{name}".
func captured(path string) string { return strings.ReplaceAll(path, "}", "=*}") }
