package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/service"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/mcptools"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// maxToolsFile is larger than any list that is accepted.
const maxToolsFile = 4 << 20

func (o *operator) toolImport() *cobra.Command {
	req := &controlplanev1.ImportToolsRequest{}
	var from, source string
	var headers, confirm []string
	var all bool
	cmd := &cobra.Command{
		Use: "import [-- COMMAND ...]", Short: "Learn the tools of an MCP server", Args: cobra.ArbitraryArgs,
		Long: `Learn the tools of an MCP server: from its URL (Streamable HTTP), from a COMMAND that
speaks MCP on its standard input and output, or from a file with its answer to
tools/list (- is standard input).

New tools are registered. A tool whose definition is another than the one that was
registered, or that came from elsewhere, is shown and stays as it was, until it is
named by --confirm: a server can rewrite a tool after you have looked at it.
Exits with 1 while something waits for that.`,
		Example: `  fulcrum tool import --mcp https://mcp.example.com/mcp --header 'Authorization: Bearer …' --dry-run
  fulcrum tool import --source files -- npx -y @modelcontextprotocol/server-filesystem /data
  fulcrum tool import --mcp tools.json --source files --confirm send_mail`,
	}
	f := cmd.Flags()
	f.StringVar(&from, "mcp", "", "URL or file of the server's tools, or -")
	f.StringVar(&source, "source", "", "name of the server, the same at every import (default the URL's host, or the program)")
	f.StringArrayVar(&headers, "header", nil, "send this to the URL, such as 'Authorization: Bearer …' (repeat)")
	f.StringSliceVar(&confirm, "confirm", nil, "take the changed definition of this tool, as it is now (repeat)")
	f.BoolVar(&all, "confirm-all", false, "take every changed definition as it is now")
	f.BoolVar(&req.RemoveMissing, "remove-missing", false, "make tools unknown that the server has no more")
	f.BoolVar(&req.DryRun, "dry-run", false, "say what would change, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if (from == "") == (len(args) == 0) {
			return usagef("%s needs either --mcp or a COMMAND behind --", cmd.CommandPath())
		}
		if req.Source, err = sourceOf(source, from, args); err != nil {
			return err
		}
		if req.ToolsList, err = toolsList(cmd, from, args, headers); err != nil {
			return err
		}
		return o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			return o.importTools(ctx, cmd, c, req, confirm, all)
		})(cmd, nil)
	}
	return cmd
}

func isURL(from string) bool {
	return strings.HasPrefix(from, "https://") || strings.HasPrefix(from, "http://")
}

// sourceOf is the name that was given, or what a server is called otherwise.
func sourceOf(given, from string, command []string) (string, error) {
	switch {
	case given != "":
		return given, nil
	case len(command) > 0:
		return filepath.Base(command[0]), nil
	case isURL(from):
		_, rest, _ := strings.Cut(from, "://")
		host, _, _ := strings.Cut(rest, "/")
		return host, nil
	}
	return "", usagef("a file says nothing about its server: name it with --source")
}

// toolsList is a tools/list answer.
func toolsList(cmd *cobra.Command, from string, command, headers []string) (string, error) {
	switch {
	case len(command) > 0:
		return mcptools.FromCommand(cmd.Context(), service.Version(), command...)
	case isURL(from):
		h := http.Header{}
		for _, line := range headers {
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return "", usagef("--header: %q is not Name: value", name)
			}
			h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
		return mcptools.FromURL(cmd.Context(), from, service.Version(), h)
	}
	in := cmd.InOrStdin()
	if from != "-" {
		file, err := os.Open(from)
		if err != nil {
			return "", fmt.Errorf("--mcp: %w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxToolsFile+1))
	if err == nil && len(text) > maxToolsFile {
		err = fmt.Errorf("has more than %d bytes", maxToolsFile)
	}
	if err != nil {
		return "", fmt.Errorf("--mcp: %w", err)
	}
	return string(text), nil
}

// importTools looks first, and then takes what is new and what was confirmed, in
// exactly the form that was looked at.
func (o *operator) importTools(ctx context.Context, cmd *cobra.Command, c *client, req *controlplanev1.ImportToolsRequest, confirm []string, all bool) error {
	dry := req.GetDryRun()
	req.DryRun = true
	seen, err := c.tools.ImportTools(ctx, req)
	if err != nil {
		return err
	}
	for _, change := range seen.GetChanges() {
		if change.GetNeedsConfirmation() && (all || slices.Contains(confirm, change.GetName())) {
			req.Confirm = append(req.Confirm, &controlplanev1.ToolPin{Name: change.GetName(), Digest: change.GetAfter().GetDigest()})
		}
	}
	for _, name := range confirm {
		if !slices.ContainsFunc(seen.GetChanges(), func(c *controlplanev1.ToolChange) bool { return c.GetName() == name }) {
			return usagef("--confirm: the server has no tool %q", name)
		}
	}
	resp := seen
	if !dry {
		req.DryRun = false
		if resp, err = c.tools.ImportTools(ctx, req); err != nil {
			return err
		}
	}
	if err := o.answer(cmd, resp, func(out io.Writer, color bool) error { return writeToolChanges(out, color, resp) }); err != nil {
		return err
	}
	var held []string
	for _, change := range resp.GetChanges() {
		if change.GetNeedsConfirmation() {
			held = append(held, change.GetName())
		}
	}
	if len(held) > 0 {
		o.say(cmd, "changed and not taken: %s", strings.Join(held, ", "))
		o.next(cmd, "read what changed, then repeat with --confirm %s", held[0])
		return answered(exitFailure)
	}
	return nil
}

func writeToolChanges(out io.Writer, color bool, resp *controlplanev1.ImportToolsResponse) error {
	t := terminal.NewTable("TOOL", "IS", "DIFFERS IN", "DONE", "PROBLEM", "DIGEST")
	for _, c := range resp.GetChanges() {
		done := "no"
		switch {
		case c.GetApplied():
			done = "yes"
		case c.GetNeedsConfirmation():
			done = "waits for --confirm"
		}
		t.Row(c.GetName(), strings.ToLower(strings.TrimPrefix(c.GetKind().String(), "TOOL_CHANGE_KIND_")), strings.Join(c.GetDiffers(), " "), done, c.GetProblem(),
			shortDigest(c.GetAfter().GetDigest()))
	}
	if err := t.Write(out, color); err != nil {
		return err
	}
	for _, c := range resp.GetChanges() {
		if c.GetBefore() == nil || c.GetAfter() == nil || len(c.GetDiffers()) == 0 {
			continue
		}
		text := fmt.Sprintf("\n--- %s, registered\n+++ %s, now\n%s", terminal.Clean(c.GetName()), terminal.Clean(c.GetName()), policyfile.TextDiff(definition(c.GetBefore()), definition(c.GetAfter())))
		if color {
			text = terminal.Diff(text)
		}
		if _, err := fmt.Fprint(out, text); err != nil {
			return err
		}
	}
	return nil
}

// definition is a tool in lines, to be compared. What a server wrote goes to a
// terminal, so it is cleaned.
func definition(t *controlplanev1.Tool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "source: %s\ndescription: %s\n", t.GetSource(), t.GetDescription())
	fmt.Fprintf(&b, "input_schema: %s\n", indented(t.GetInputSchema()))
	if t.GetAnnotations() != "" {
		fmt.Fprintf(&b, "annotations: %s\n", indented(t.GetAnnotations()))
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		lines = append(lines, terminal.Clean(strings.TrimSuffix(line, "\n")))
	}
	return strings.Join(lines, "\n") + "\n"
}

func indented(text string) string {
	var out bytes.Buffer
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	e := json.NewEncoder(&out) // the same order for both
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if e.Encode(v) != nil {
		return text
	}
	return strings.TrimSuffix(out.String(), "\n")
}
