package proto_test

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	// Each registers its descriptors, which is all these tests need of it.
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/checkpoint/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/events/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/identity/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	_ "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
)

// The other tests walk what is imported above; a package left out would pass
// them unseen.
func TestEveryProtoFileIsUnderTest(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("fulcrum/*/v1/*.proto")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d .proto files: %v", len(files), err)
	}
	for _, file := range files {
		if _, err := protoregistry.GlobalFiles.FindFileByPath(filepath.ToSlash(file)); err != nil {
			t.Errorf("%s has no generated Go imported here: run make generate, then import it: %v", file, err)
		}
	}
}

// eachMethod calls fn for every rpc of ours.
func eachMethod(fn func(protoreflect.MethodDescriptor)) {
	eachFile(func(file protoreflect.FileDescriptor) {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				fn(methods.Get(j))
			}
		}
	})
}

// eachMessage calls fn for every message of ours, nested ones too, but not for
// the entries of maps.
func eachMessage(fn func(protoreflect.MessageDescriptor)) {
	var walk func(protoreflect.MessageDescriptors)
	walk = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			if m := messages.Get(i); !m.IsMapEntry() {
				fn(m)
				walk(m.Messages())
			}
		}
	}
	eachFile(func(file protoreflect.FileDescriptor) { walk(file.Messages()) })
}

func eachFile(fn func(protoreflect.FileDescriptor)) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "fulcrum.") {
			fn(file)
		}
		return true
	})
}
