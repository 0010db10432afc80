package app

import (
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Config is what an operator can set besides what every service reads.
type Config struct {
	Addr          string
	PolicyEngine  string        // host:port
	Pepper        secret.Secret // API keys are hashed under it; the gateway needs the same
	PepperVersion int           // names the pepper, so that it can be changed
	MaxConns      int
	SigningKey    secret.Secret // exported policies are signed with it; may be zero
	TrustedKeys   []string      // whose signatures imports believe
}

func (c *Config) read(r *config.Reader) {
	c.Addr = config.Listen(r, "CONTROL_PLANE_ADDR", "127.0.0.1:50054")
	r.Doc("CONTROL_PLANE_ADDR", "where gRPC is served")
	c.PolicyEngine = r.Addr("POLICY_ENGINE_URL", "127.0.0.1:50052")
	r.Doc("POLICY_ENGINE_URL", "host:port of the policy-engine, which compiles policies")
	c.Pepper = r.Secret("FULCRUM_KEY_PEPPER")
	r.Doc("FULCRUM_KEY_PEPPER", "API keys are hashed under it; the same in control-plane and gateway, kept out of the database")
	c.PepperVersion = r.IntBetween("FULCRUM_KEY_PEPPER_VERSION", 1, 1, 32767)
	r.Doc("FULCRUM_KEY_PEPPER_VERSION", "counted up when the pepper changes")
	c.SigningKey = r.Secret("FULCRUM_POLICY_SIGNING_KEY", "")
	r.Doc("FULCRUM_POLICY_SIGNING_KEY", "signs exported policies: PRIVATE+KEY+<name>+<hash>+<key>, as fulcrum keygen prints it; without it nothing is exported")
	c.TrustedKeys = r.Strings("FULCRUM_POLICY_TRUSTED_KEYS")
	r.Doc("FULCRUM_POLICY_TRUSTED_KEYS", "public keys, comma separated, whose bundles of policies may be imported, besides its own")
	c.MaxConns = r.IntBetween("CONTROL_PLANE_DB_CONNS", 10, 2, 200)
	r.Doc("CONTROL_PLANE_DB_CONNS", "most database connections at once")
}
