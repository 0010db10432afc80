package proto_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// firstOfOurs is the lowest number that a field or value of ours may have in a
// published message or enum.
const firstOfOurs = 100

// A client built from the published contract must work unchanged: every line
// of testdata/contract.txt holds, to the number and the type.
func TestEveryPublishedItemIsThereUnchanged(t *testing.T) {
	t.Parallel()
	for _, line := range readContract(t) {
		if got := describe(line.key); got != line.want {
			t.Errorf("contract.txt:%d: %s\n  published: %s\n  ours:      %s", line.number, line.key, line.want, got)
		}
	}
}

// What we add must never take a number that the published contract may take
// next.
func TestOurAdditionsStartAtAHundred(t *testing.T) {
	t.Parallel()
	published := map[string]bool{}
	for _, line := range readContract(t) {
		published[line.key] = true
	}

	for key := range published {
		kind, name, _ := strings.Cut(key, " ")
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			continue // the other test says so
		}
		switch kind {
		case "message":
			fields := d.(protoreflect.MessageDescriptor).Fields()
			for i := range fields.Len() {
				f := fields.Get(i)
				if !published["field "+string(f.FullName())] && f.Number() < firstOfOurs {
					t.Errorf("%s = %d is ours: its number must be %d or more", f.FullName(), f.Number(), firstOfOurs)
				}
			}
		case "enum":
			e := d.(protoreflect.EnumDescriptor)
			for i := range e.Values().Len() {
				v := e.Values().Get(i)
				if !published[valueKey(e, string(v.Name()))] && v.Number() < firstOfOurs {
					t.Errorf("%s of %s = %d is ours: its number must be %d or more", v.Name(), e.FullName(), v.Number(), firstOfOurs)
				}
			}
		}
	}
}

// A published package may not lose its place in the file that checks it.
func TestTheContractCoversEveryPublishedPackage(t *testing.T) {
	t.Parallel()
	want := []string{"agent", "brain", "checkpoint", "cost", "envelope", "events", "eventstore", "policy", "tenant"}
	rpcs, got := map[string]int{}, map[string]bool{}
	for _, line := range readContract(t) {
		kind, name, _ := strings.Cut(line.key, " ")
		pkg := strings.Split(name, ".")[1]
		got[pkg] = true
		if kind == "rpc" {
			rpcs[pkg]++
		}
	}
	for _, pkg := range want {
		if !got[pkg] {
			t.Errorf("contract.txt says nothing about %s", pkg)
		}
	}
	wantRPCs := map[string]int{
		"agent": 7, "brain": 11, "checkpoint": 9, "cost": 9, "envelope": 3, "eventstore": 6, "policy": 10, "tenant": 3,
	}
	if diff := cmp.Diff(wantRPCs, rpcs); diff != "" {
		t.Errorf("published rpcs per package (-want +got):\n%s", diff)
	}
}

// contractLine is one promise: what describe must say about key.
type contractLine struct {
	number    int
	key, want string
}

// readContract parses testdata/contract.txt, whose head explains its form.
func readContract(t *testing.T) []contractLine {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "contract.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	var lines []contractLine
	seen := map[string]int{}
	var pkg, owner, prefix string
	inEnum := false
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		text := in.Text()
		words := strings.Fields(text)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		add := func(key, want string) {
			if seen[key] != 0 {
				t.Fatalf("contract.txt:%d: %s is on line %d already", n, key, seen[key])
			}
			seen[key] = n
			lines = append(lines, contractLine{n, key, want})
		}
		switch {
		case strings.HasPrefix(text, "  ") && inEnum && len(words) == 2:
			add("value "+parent(owner)+prefix+"_"+words[0]+" "+owner, words[1])
		case strings.HasPrefix(text, "  ") && !inEnum && len(words) >= 3:
			add("field "+owner+"."+words[0], strings.Join(append([]string{words[1], qualify(pkg, words[2])}, words[3:]...), " "))
		case words[0] == "package" && len(words) == 2:
			pkg = words[1]
		case words[0] == "message" && len(words) == 2:
			owner, inEnum = pkg+"."+words[1], false
			add("message "+owner, "message")
		case words[0] == "enum" && len(words) == 3:
			owner, prefix, inEnum = pkg+"."+words[1], words[2], true
			add("enum "+owner, "enum")
			add("value "+parent(owner)+prefix+"_UNSPECIFIED "+owner, "0")
		case words[0] == "rpc" && len(words) >= 5:
			w := words[3:]
			out := pkg + "."
			if w[1] == "stream" {
				out = "stream " + out
				w = append([]string{w[0]}, w[2:]...)
			}
			out += w[1]
			add("rpc "+pkg+"."+words[1]+"."+words[2], strings.TrimSpace(pkg+"."+w[0]+" -> "+out+" "+strings.Join(w[2:], " ")))
		default:
			t.Fatalf("contract.txt:%d: cannot read %q", n, text)
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// parent is the scope of a name, with its final dot: enum values live beside
// their enum.
func parent(name string) string { return name[:strings.LastIndex(name, ".")+1] }

// qualify gives a type of the file its full name.
func qualify(pkg, typ string) string {
	if rest, repeated := strings.CutPrefix(typ, "*"); repeated {
		return "*" + qualify(pkg, rest)
	}
	if strings.HasPrefix(typ, "fulcrum.") || strings.ToLower(typ[:1]) == typ[:1] {
		return typ
	}
	return pkg + "." + typ
}

func valueKey(e protoreflect.EnumDescriptor, value string) string {
	return "value " + parent(string(e.FullName())) + value + " " + string(e.FullName())
}

// describe says in the words of the contract what our descriptors hold under
// key, or "missing".
func describe(key string) string {
	kind, name, _ := strings.Cut(key, " ")
	name, enum, _ := strings.Cut(name, " ")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return "missing"
	}
	switch d := d.(type) {
	case protoreflect.MessageDescriptor:
		return "message"
	case protoreflect.EnumDescriptor:
		return "enum"
	case protoreflect.EnumValueDescriptor:
		if string(d.Parent().FullName()) != enum {
			return "a value of " + string(d.Parent().FullName())
		}
		return strconv.Itoa(int(d.Number()))
	case protoreflect.FieldDescriptor:
		return describeField(d)
	case protoreflect.MethodDescriptor:
		return describeMethod(d)
	}
	return fmt.Sprintf("a %T, not a %s", d, kind)
}

func describeField(f protoreflect.FieldDescriptor) string {
	s := strconv.Itoa(int(f.Number())) + " "
	switch {
	case f.IsMap():
		s += "map<" + typeName(f.MapKey()) + "," + typeName(f.MapValue()) + ">"
	case f.IsList():
		s += "*" + typeName(f)
	default:
		s += typeName(f)
	}
	if o := f.ContainingOneof(); o != nil {
		s += " oneof=" + string(o.Name())
	}
	return s
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	case f.Message() == nil:
		return f.Kind().String()
	}
	switch name := f.Message().FullName(); name {
	case "google.protobuf.Timestamp":
		return "ts"
	case "google.protobuf.Struct":
		return "struct"
	case "google.protobuf.ListValue":
		return "list"
	default:
		return string(name)
	}
}

func describeMethod(m protoreflect.MethodDescriptor) string {
	s := string(m.Input().FullName()) + " -> "
	if m.IsStreamingClient() {
		s = "stream " + s
	}
	if m.IsStreamingServer() {
		s += "stream "
	}
	s += string(m.Output().FullName())
	rule, _ := proto.GetExtension(m.Options().(*descriptorpb.MethodOptions), annotations.E_Http).(*annotations.HttpRule)
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		s += " GET " + p.Get
	case *annotations.HttpRule_Post:
		s += " POST " + p.Post
	case *annotations.HttpRule_Put:
		s += " PUT " + p.Put
	case *annotations.HttpRule_Patch:
		s += " PATCH " + p.Patch
	case *annotations.HttpRule_Delete:
		s += " DELETE " + p.Delete
	}
	if b := rule.GetBody(); b != "" {
		s += " " + b
	}
	for range rule.GetAdditionalBindings() {
		s += " and another route"
	}
	return s
}
