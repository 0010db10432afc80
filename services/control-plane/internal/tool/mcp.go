package tool

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/strictjson"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// Bounds of an import.
const (
	maxListed      = 1000
	maxDescription = 4096
	maxSchema      = 65536
	maxAnnotations = 8192
)

// listed is one tool of a tools/list answer, or why it cannot be registered.
type listed struct {
	tool    *controlplanev1.Tool
	problem string
}

// message is a JSON-RPC answer to tools/list. Its names are taken as they are
// written, which encoding/json does for maps only.
type message map[string]json.RawMessage

// get is the value of a name; what is missing is null.
func (m message) get(name string) json.RawMessage {
	if raw := m[name]; raw != nil {
		return raw
	}
	return json.RawMessage("null")
}

// parse reads a tools/list answer: its result, or the JSON-RPC message around it.
// What an agent's parser may read differently is refused as a whole: a definition
// that was confirmed must be the one that agents see.
func parse(text string) ([]listed, error) {
	if err := strictjson.Unique([]byte(text)); err != nil {
		return nil, fault.Field("tools_list", "is not the JSON of a tools/list answer, or can be read in two ways: %s", err)
	}
	var m message
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fault.Field("tools_list", "is not the JSON of a tools/list answer: %s", err)
	}
	var inner message
	if err := json.Unmarshal(m.get("result"), &inner); err != nil {
		return nil, fault.Field("tools_list", "has a result that is no object: %s", err)
	}
	r := m
	if inner != nil {
		r = inner
	}
	var tools []map[string]json.RawMessage
	var next string
	if err := errors.Join(json.Unmarshal(r.get("tools"), &tools), json.Unmarshal(r.get("nextCursor"), &next)); err != nil {
		return nil, fault.Field("tools_list", "is not the JSON of a tools/list answer: %s", err)
	}
	switch {
	case string(m.get("error")) != "null":
		return nil, fault.Field("tools_list", "is an error, not a list of tools")
	case tools == nil:
		return nil, fault.Field("tools_list", "has no tools")
	case next != "":
		return nil, fault.Field("tools_list", "is one page of several: ask with its nextCursor for the others and give all tools together")
	case len(tools) > maxListed:
		return nil, fault.Field("tools_list", "has %d tools, more than %d", len(tools), maxListed)
	}
	out := make([]listed, 0, len(tools))
	seen := map[string]bool{}
	for i, raw := range tools {
		t, problem := read(raw)
		if t.GetName() == "" || seen[t.GetName()] {
			return nil, fault.Field("tools_list", "has a tool at %d without a name, or with that of another", i)
		}
		seen[t.GetName()] = true
		out = append(out, listed{t, problem})
	}
	return out, nil
}

// read makes a Tool of what a server says, and says what is wrong with it.
func read(raw map[string]json.RawMessage) (*controlplanev1.Tool, string) {
	t := &controlplanev1.Tool{}
	problem := ""
	wrong := func(format string, a ...any) {
		if problem == "" {
			problem = fmt.Sprintf(format, a...)
		}
	}
	if json.Unmarshal(raw["name"], &t.Name) != nil || t.GetName() != strings.TrimSpace(t.GetName()) || len(t.GetName()) > 256 {
		wrong("its name is empty, begins or ends with a blank, or is longer than 256 bytes")
	}
	if d := raw["description"]; d != nil && json.Unmarshal(d, &t.Description) != nil {
		wrong("its description is no text")
	}
	if len([]rune(t.GetDescription())) > maxDescription {
		wrong("its description has more than %d characters", maxDescription)
	}
	var err error
	if t.InputSchema, err = canonical(raw["inputSchema"]); err != nil || len(t.GetInputSchema()) > maxSchema {
		wrong("its inputSchema is no JSON, or has more than %d bytes", maxSchema)
	}
	if t.Annotations, err = canonical(raw["annotations"]); err != nil || len(t.GetAnnotations()) > maxAnnotations {
		wrong("its annotations are no JSON, or have more than %d bytes", maxAnnotations)
	}
	if strings.ContainsRune(t.GetName()+t.GetDescription()+t.GetInputSchema()+t.GetAnnotations(), 0) {
		wrong("it holds a zero byte")
	}
	if t.Digest, err = digest(raw); err != nil {
		wrong("its definition is no JSON")
	}
	return t, problem
}

// digest names a definition: all of it but what is for the eye or says nothing
// about the tool.
func digest(raw map[string]json.RawMessage) (string, error) {
	all := make(map[string]json.RawMessage, len(raw))
	for k, v := range raw {
		if k != "_meta" && k != "icons" {
			all[k] = v
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	same, err := canonical(text)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(same))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// canonical is JSON in the one form that ours has: keys in order, no blanks,
// numbers as they were written. Nothing and null are "".
func canonical(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// differs is what two definitions do not have in common.
func differs(before, after *controlplanev1.Tool) (what []string) {
	for name, same := range map[string]bool{
		"description": before.GetDescription() == after.GetDescription(), "annotations": before.GetAnnotations() == after.GetAnnotations(),
	} {
		if !same {
			what = append(what, name)
		}
	}
	// By hand a schema is kept as it was written.
	if same, err := canonical(json.RawMessage(before.GetInputSchema())); err != nil || same != after.GetInputSchema() {
		what = append(what, "input_schema")
	}
	if len(what) == 0 && before.GetDigest() != "" && before.GetDigest() != after.GetDigest() {
		what = append(what, "other") // a title, or a schema of its output
	}
	slices.Sort(what)
	return what
}
