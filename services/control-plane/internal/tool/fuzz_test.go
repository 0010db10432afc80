package tool

import (
	"testing"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// Whatever a server answers, a list is refused, or each tool has a name of its
// own and a digest that does not change when it is read again; and an import of
// the same list after it was taken finds everything the same.
func FuzzToolsList(f *testing.F) {
	for _, seed := range []string{
		`{"tools": [{"name": "a", "description": "d", "inputSchema": {"b": 1.0, "a": [null, true]}, "annotations": {"readOnlyHint": true}}]}`,
		`{"jsonrpc": "2.0", "result": {"tools": [{"name": "a"}, {"name": "b", "_meta": {}}]}}`,
		`{"tools": [{"name": "a", "inputSchema": "text", "description": 5}]}`, `{"tools": null}`, `{"tools": [{}]}`, `{"result": {"tools": []}, "error": {}}`, "{\"tools\": [{\"name\": \"\\u0000\"}]}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(text)
		if err != nil || len(again) != len(all) {
			t.Fatalf("read again: %v", err)
		}
		before := map[string]*controlplanev1.Tool{}
		for i, l := range all {
			if l.tool.GetName() == "" || before[l.tool.GetName()] != nil {
				t.Fatalf("no name, or one twice: %q", l.tool.GetName())
			}
			if l.tool.GetDigest() != again[i].tool.GetDigest() {
				t.Fatalf("%q has two digests", l.tool.GetName())
			}
			if l.problem != "" {
				continue
			}
			l.tool.Source = "s"
			before[l.tool.GetName()] = l.tool
		}
		for _, c := range plan("s", before, all, nil, true) {
			if c.GetNeedsConfirmation() || len(c.GetDiffers()) > 0 && c.GetKind() != controlplanev1.ToolChangeKind_TOOL_CHANGE_KIND_UNUSABLE {
				t.Fatalf("after it was taken: %v", c)
			}
		}
	})
}
