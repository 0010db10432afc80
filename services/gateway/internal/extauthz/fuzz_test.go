package extauthz

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Whatever a client sends through a proxy, it becomes one action or is refused;
// no header of the client's chooses what kind of action it is.
func FuzzHeldRequest(f *testing.F) {
	f.Add("POST", "/a?b=c", "application/json", []byte(`{"a":1}`), "fulcrum.kind")
	f.Add("GET", "/a/../b", "text/plain", []byte("x"), "x-fulcrum-kind")
	f.Add("", "http://x/%2f", "application/json", []byte(`[1,1e400]`), "fulcrum-envelope-id")
	f.Fuzz(func(t *testing.T, method, path, kind string, body []byte, name string) {
		a := &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Path: path, Host: "h", Scheme: "https", RawBody: body, Headers: map[string]string{"content-type": kind, name: "LLM_CALL"},
		}}, ContextExtensions: map[string]string{"fulcrum.kind": "TOOL_CALL", "fulcrum.name": "refund"}}
		req, err := actionOf(a, headersOf(a.GetRequest().GetHttp()))
		if err != nil {
			if refused(err).GetDeniedResponse().GetStatus().GetCode() < 400 || !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Exhausted) {
				t.Fatalf("%q %q %q %q: %v", method, path, kind, body, err)
			}
			return
		}
		if req.GetAction().GetKind().String() != "ACTION_KIND_TOOL_CALL" || req.GetAction().GetName() != "refund" || req.GetIdempotencyKey() == "" {
			t.Fatalf("%q %q %q %q became %v", method, path, kind, body, req)
		}
	})
}
