package extauthz

import (
	"maps"
	"math"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// The headers by which an agent says in which envelope it acts, and which
// approval it has. Both are checked like any caller's.
const (
	envelopeHeader = "fulcrum-envelope-id"
	approvalHeader = "fulcrum-approval-id"
)

// shownHeaders are attributes unless the route names others besides.
var shownHeaders = []string{"content-type", "user-agent"}

// neverShown carry secrets: no route makes facts of them.
var neverShown = []string{"authorization", "proxy-authorization", "x-api-key", "cookie", "set-cookie"}

// headersOf are the request's headers by lower-case name, whichever of its two
// forms Envoy sends.
func headersOf(http *authv3.AttributeContext_HttpRequest) map[string][]string {
	all := make(map[string][]string, len(http.GetHeaders())+len(http.GetHeaderMap().GetHeaders()))
	for k, v := range http.GetHeaders() {
		all[strings.ToLower(k)] = append(all[strings.ToLower(k)], v)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		v := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			v = strings.ToValidUTF8(string(raw), "\uFFFD")
		}
		all[strings.ToLower(h.GetKey())] = append(all[strings.ToLower(h.GetKey())], v)
	}
	return all
}

// actionOf is the request as an action, named and priced by its route. Every
// request is one of its own: a proxy's client that repeats itself acts again.
func actionOf(a *authv3.AttributeContext, headers map[string][]string) (*governancev1.AuthorizeRequest, error) {
	http := a.GetRequest().GetHttp()
	if http == nil {
		return nil, fault.Field("attributes.request.http", "is missing: only HTTP requests are decided").WithReason("REQUEST_MALFORMED")
	}
	route, err := routeOf(a.GetContextExtensions())
	if err != nil {
		return nil, err
	}
	target, err := targetOf(http)
	if err != nil {
		return nil, err
	}
	req := &governancev1.AuthorizeRequest{
		Action:         &governancev1.Action{Kind: route.kind, Name: route.name, Resource: target.String()},
		Attributes:     attributes(a, target, headers, route),
		ApprovalId:     strings.Join(headers[approvalHeader], ","),
		IdempotencyKey: uuid.NewString(),
	}
	if env := strings.Join(headers[envelopeHeader], ","); env != "" {
		req.Envelope = &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: env}
	}
	if route.cost > 0 {
		req.Estimate = &governancev1.Estimate{CostUsd: route.cost}
	}
	if !route.ignoreBody {
		if req.Action.Arguments, err = arguments(http, headers); err != nil {
			return nil, err
		}
	}
	if route.kind == governancev1.ActionKind_ACTION_KIND_LLM_CALL {
		req.Action.Model = req.GetAction().GetArguments().GetFields()["model"].GetStringValue()
	}
	if req.Action.Name == "" {
		req.Action.Name = req.GetAction().GetModel()
	}
	if req.Action.Name == "" {
		req.Action.Name = "http." + strings.ToLower(http.GetMethod())
	}
	return req, nil
}

// targetOf is what the request addresses. A path that could be read in two ways
// is refused: rules see one of them, and the upstream might see the other.
func targetOf(http *authv3.AttributeContext_HttpRequest) (*url.URL, error) {
	u, err := url.ParseRequestURI(http.GetPath())
	if err != nil || u.Host != "" || u.RawPath != "" || !strings.HasPrefix(u.Path, "/") || u.Path != "/" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") {
		return nil, fault.Field("path", "is malformed, or not normalized").WithReason("PATH_MALFORMED")
	}
	u.Scheme, u.Host = http.GetScheme(), http.GetHost()
	return u, nil
}

func attributes(a *authv3.AttributeContext, target *url.URL, headers map[string][]string, r route) map[string]string {
	http := a.GetRequest().GetHttp()
	out := make(map[string]string)
	put := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	put("http.method", http.GetMethod())
	put("http.host", http.GetHost())
	put("http.path", target.Path)
	put("http.query", target.RawQuery)
	put("http.scheme", http.GetScheme())
	put("http.protocol", http.GetProtocol())
	put("source.principal", a.GetSource().GetPrincipal())
	put("source.address", addressOf(a.GetSource().GetAddress()))
	for _, name := range append(slices.Clone(shownHeaders), r.headers...) {
		put("http.header."+name, strings.Join(headers[name], ","))
	}
	return out
}

func addressOf(a *corev3.Address) string { return a.GetSocketAddress().GetAddress() }

// route is what the proxy's configuration says about a route, by
// context_extensions, which no client can set.
type route struct {
	kind       governancev1.ActionKind
	name       string
	cost       float64 // USD
	headers    []string
	ignoreBody bool
}

// routeOf reads a route's configuration. What cannot be understood is a
// misconfiguration and lets nothing through.
func routeOf(extensions map[string]string) (r route, err error) {
	r.kind = governancev1.ActionKind_ACTION_KIND_OTHER
	for _, key := range slices.Sorted(maps.Keys(extensions)) {
		word, ours := strings.CutPrefix(key, "fulcrum.")
		value := extensions[key]
		ok := true
		switch {
		case !ours: // another filter's
		case word == "kind":
			var kind int32
			kind, ok = governancev1.ActionKind_value["ACTION_KIND_"+value]
			r.kind, ok = governancev1.ActionKind(kind), ok && kind != 0
		case word == "name":
			r.name, ok = value, value != "" && len(value) <= 256
		case word == "cost_usd":
			r.cost, err = strconv.ParseFloat(value, 64)
			ok = err == nil && r.cost >= 0 && !math.IsInf(r.cost, 0) && !math.IsNaN(r.cost)
		case word == "headers":
			for name := range strings.SplitSeq(strings.ToLower(value), ",") {
				name = strings.TrimSpace(name)
				ok = ok && name != "" && !slices.Contains(neverShown, name)
				r.headers = append(r.headers, name)
			}
			ok = ok && len(r.headers) <= 32
		case word == "body":
			r.ignoreBody, ok = value == "ignore", value == "ignore" || value == "read"
		default:
			ok = false
		}
		if !ok {
			return r, fault.New(fault.Down, "this route is misconfigured: context extension %s", key).
				WithReason("ROUTE_MISCONFIGURED").WithRetry(time.Minute)
		}
	}
	return r, nil
}
