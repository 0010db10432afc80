package app

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Config is what an operator can set besides what every service reads.
type Config struct {
	GRPCAddr string
	HTTPAddr string

	PolicyEngine   string
	Budget         string
	ControlPlane   string
	EventProcessor string
	Audit          string

	Peppers  map[int]secret.Secret
	Pepper   secret.Secret // the current one
	AdminKey secret.Secret

	KeyRate    int
	TenantRate int
	Sweep      time.Duration
	MaxConns   int
	MaxBatch   int
	MaxQueue   int
	Lanes      int
	Remember   int
	Origins    []string
	PublicURL  string
	Reflection bool
}

func (c *Config) read(r *config.Reader) {
	doc := func(key, text string) { r.Doc(key, text) }
	c.GRPCAddr = config.Listen(r, "GATEWAY_GRPC_ADDR", "127.0.0.1:50051")
	doc("GATEWAY_GRPC_ADDR", "where native gRPC is served")
	c.HTTPAddr = config.ListenPort(r, "GATEWAY_HTTP_ADDR", "127.0.0.1:8080")
	doc("GATEWAY_HTTP_ADDR", "where REST, Connect and gRPC-Web are served")
	doc("PORT", "the HTTP port on every interface; wins over GATEWAY_HTTP_ADDR")

	for _, peer := range []struct {
		into *string
		key  string
		port int
		what string
	}{
		{&c.PolicyEngine, "POLICY_ENGINE_URL", 50052, "policy-engine"},
		{&c.Budget, "BUDGET_URL", 50053, "budget service"},
		{&c.ControlPlane, "CONTROL_PLANE_URL", 50054, "control plane"},
		{&c.EventProcessor, "EVENT_PROCESSOR_URL", 50055, "event processor"},
		{&c.Audit, "AUDIT_URL", 50056, "audit service"},
	} {
		*peer.into = r.Addr(peer.key, net.JoinHostPort("127.0.0.1", strconv.Itoa(peer.port)))
		doc(peer.key, "host:port of the "+peer.what)
	}

	c.Pepper = r.Secret("FULCRUM_KEY_PEPPER")
	doc("FULCRUM_KEY_PEPPER", "API keys are hashed under it; the same in control-plane and gateway, kept out of the database")
	version := r.IntBetween("FULCRUM_KEY_PEPPER_VERSION", 1, 1, 32767)
	doc("FULCRUM_KEY_PEPPER_VERSION", "counted up when the pepper changes")
	c.Peppers = map[int]secret.Secret{version: c.Pepper}
	if old := r.Secret("FULCRUM_KEY_PEPPER_PREVIOUS", ""); !old.IsZero() {
		c.Peppers[version-1] = old
	}
	doc("FULCRUM_KEY_PEPPER_PREVIOUS", "the pepper before this one, while keys hashed under it are still in use")
	c.AdminKey = r.Secret("FULCRUM_ADMIN_KEY", "")
	doc("FULCRUM_ADMIN_KEY", "the platform administrator's credential; empty: there is none")
	if n := len(c.AdminKey.Reveal()); n > 0 && n < 32 {
		r.Problem("FULCRUM_ADMIN_KEY", "is too short to be a secret: 32 characters at least")
	}

	c.KeyRate = r.IntBetween("GATEWAY_KEY_RATE", 2000, 0, 1<<20)
	doc("GATEWAY_KEY_RATE", "calls a second that one API key may make; 0: no limit")
	c.TenantRate = r.IntBetween("GATEWAY_TENANT_RATE", 10000, 0, 1<<20)
	doc("GATEWAY_TENANT_RATE", "calls a second that one tenant may make; 0: no limit")
	c.Sweep = r.DurationBetween("GATEWAY_SWEEP_EVERY", time.Second, 20*time.Millisecond, time.Hour)
	doc("GATEWAY_SWEEP_EVERY", "how often envelopes and approvals past their time are ended")
	c.MaxConns = r.IntBetween("GATEWAY_DB_CONNS", 30, 4, 200)
	doc("GATEWAY_DB_CONNS", "most database connections at once")
	c.MaxBatch = r.IntBetween("GATEWAY_MAX_BATCH", 256, 1, 4096)
	doc("GATEWAY_MAX_BATCH", "most entries recorded in one transaction")
	c.MaxQueue = r.IntBetween("GATEWAY_MAX_QUEUE", 8192, 1, 1<<20)
	doc("GATEWAY_MAX_QUEUE", "entries waiting before new calls are turned away")
	c.Lanes = r.IntBetween("GATEWAY_LANES", 2, 1, 16)
	doc("GATEWAY_LANES", "transactions in flight at once, and as many for decisions that count on limits")
	c.Remember = r.IntBetween("GATEWAY_REMEMBER_ENVELOPES", 100_000, 1, 1<<24)
	doc("GATEWAY_REMEMBER_ENVELOPES", "running envelopes kept in memory, so that a decision need not read them first")
	c.Origins = r.Strings("GATEWAY_CORS_ORIGINS")
	doc("GATEWAY_CORS_ORIGINS", "origins whose pages may call from a browser, separated by commas; empty: none")
	c.PublicURL = strings.TrimSuffix(r.String("GATEWAY_PUBLIC_URL", ""), "/")
	doc("GATEWAY_PUBLIC_URL", "where callers reach the HTTP port, like https://fulcrum.example; empty: as they address it")
	if u, err := url.Parse(c.PublicURL); c.PublicURL != "" && (err != nil || u.Host == "" || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http") {
		r.Problem("GATEWAY_PUBLIC_URL", "is not an http or https address")
	}
	c.Reflection = r.Bool("GATEWAY_REFLECTION", true)
	doc("GATEWAY_REFLECTION", "whether clients may ask for the schema")
}
