package app

import (
	"net/url"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/outside"
)

// Config is what an operator can set besides what every service reads.
type Config struct {
	Addr      string
	BundleKey secret.Secret
	Tenants   int
	MaxConns  int
	Outside   outside.Config
}

func (c *Config) read(r *config.Reader) {
	c.Addr = config.Listen(r, "POLICY_ENGINE_ADDR", "127.0.0.1:50052")
	r.Doc("POLICY_ENGINE_ADDR", "where gRPC is served")
	c.BundleKey = r.Secret("FULCRUM_BUNDLE_KEY", "")
	r.Doc("FULCRUM_BUNDLE_KEY", "signs the last good policies kept in Redis; without it none are kept; required beyond loopback")
	if c.BundleKey.IsZero() && !secret.Loopback(c.Addr) {
		r.Problem("FULCRUM_BUNDLE_KEY", "is required to serve on %s", c.Addr)
	}
	if key := c.BundleKey.Reveal(); key != "" && len(key) < 16 {
		r.Problem("FULCRUM_BUNDLE_KEY", "is shorter than 16 bytes")
	}
	c.Tenants = r.IntBetween("POLICY_ENGINE_TENANTS", 2000, 10, 100_000)
	r.Doc("POLICY_ENGINE_TENANTS", "tenants whose policies are kept compiled")
	c.MaxConns = r.IntBetween("POLICY_ENGINE_DB_CONNS", 4, 1, 200)
	r.Doc("POLICY_ENGINE_DB_CONNS", "most database connections at once")
	c.readOutside(r)
}

// readOutside reads who may be asked by SEMANTIC and EXTERNAL_CALL conditions:
// nobody unless set.
func (c *Config) readOutside(r *config.Reader) {
	o := &c.Outside
	o.ModelURL = r.String("POLICY_ENGINE_MODEL_URL", "")
	r.Doc("POLICY_ENGINE_MODEL_URL", "base of an OpenAI-compatible API that judges SEMANTIC conditions, such as http://127.0.0.1:11434/v1 for Ollama; empty: they fail")
	o.ModelKey = r.Secret("POLICY_ENGINE_MODEL_KEY", "")
	r.Doc("POLICY_ENGINE_MODEL_KEY", "bearer token for it")
	o.Model = r.String("POLICY_ENGINE_MODEL", "llama3.2")
	r.Doc("POLICY_ENGINE_MODEL", "the model that judges when a condition names none")
	o.ModelTimeout = r.Duration("POLICY_ENGINE_MODEL_TIMEOUT", 2*time.Second)
	r.Doc("POLICY_ENGINE_MODEL_TIMEOUT", "how long a decision waits for the model")
	for host := range strings.SplitSeq(r.String("POLICY_ENGINE_EXTERNAL_HOSTS", ""), ",") {
		if host = strings.TrimSpace(host); host != "" {
			o.Hosts = append(o.Hosts, host)
		}
	}
	r.Doc("POLICY_ENGINE_EXTERNAL_HOSTS", "public hosts that EXTERNAL_CALL conditions may call over https, comma separated, with a port unless it is 443; empty: they fail")
	o.ExternalTimeout = r.Duration("POLICY_ENGINE_EXTERNAL_TIMEOUT", 500*time.Millisecond)
	r.Doc("POLICY_ENGINE_EXTERNAL_TIMEOUT", "how long a decision waits for such a call")
	if u, err := url.Parse(o.ModelURL); o.ModelURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		r.Problem("POLICY_ENGINE_MODEL_URL", "is not an http or https URL")
	}
}
