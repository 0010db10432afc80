package app

import (
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Config is what an operator can set besides what every service reads.
type Config struct {
	Addr      string
	Key       secret.Secret // note signer key of the log checkpoints
	SignEvery time.Duration // between looks for entries that no checkpoint covers
	MaxConns  int
}

func (c *Config) read(r *config.Reader) {
	c.Addr = config.Listen(r, "AUDIT_ADDR", "127.0.0.1:50056")
	r.Doc("AUDIT_ADDR", "where gRPC is served")
	c.Key = r.Secret("FULCRUM_AUDIT_KEY")
	r.Doc("FULCRUM_AUDIT_KEY", "signs log checkpoints: PRIVATE+KEY+<name>+<hash>+<key>, as fulcrum keygen prints it")
	c.SignEvery = r.DurationBetween("AUDIT_SIGN_EVERY", 5*time.Second, 10*time.Millisecond, time.Hour)
	r.Doc("AUDIT_SIGN_EVERY", "how often to look for entries that a crash left unsigned")
	c.MaxConns = r.IntBetween("AUDIT_DB_CONNS", 6, 2, 200)
	r.Doc("AUDIT_DB_CONNS", "most database connections at once")
}
