// Package mcptools asks MCP servers what tools they have.
package mcptools

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// FromURL asks a server by Streamable HTTP, with header on every request, and
// returns all its tools as the JSON of one tools/list answer.
func FromURL(ctx context.Context, url, version string, header http.Header) (string, error) {
	client := &http.Client{Transport: withHeader{header}}
	// Nothing is waited for but the answer.
	return list(ctx, version, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: client, MaxRetries: -1, DisableStandaloneSSE: true})
}

// FromCommand starts a server and asks it over its standard input and output.
func FromCommand(ctx context.Context, version string, command ...string) (string, error) {
	return list(ctx, version, &mcp.CommandTransport{Command: exec.CommandContext(ctx, command[0], command[1:]...)})
}

func list(ctx context.Context, version string, over mcp.Transport) (string, error) {
	session, err := mcp.NewClient(&mcp.Implementation{Name: "fulcrum", Version: version}, nil).Connect(ctx, over, nil)
	if err != nil {
		return "", fmt.Errorf("connect to the MCP server: %w", err)
	}
	defer func() { _ = session.Close() }()
	tools := []*mcp.Tool{}
	for t, err := range session.Tools(ctx, nil) {
		if err != nil {
			return "", fmt.Errorf("list the MCP server's tools: %w", err)
		}
		tools = append(tools, t)
	}
	text, err := json.Marshal(map[string]any{"tools": tools})
	return string(text), err
}

// withHeader adds to every request.
type withHeader struct{ header http.Header }

// RoundTrip implements http.RoundTripper.
func (w withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for k, v := range w.header {
		r.Header[k] = v
	}
	return http.DefaultTransport.RoundTrip(r)
}
