package app

import (
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Config is what an operator can set besides what every service reads.
type Config struct {
	Addr     string
	Lanes    int
	MaxBatch int
	MaxQueue int
	MaxConns int
	Fast     bool
	Sweep    time.Duration // between looks for holds that ran out
	Check    time.Duration // between checks of the counters against the entries
	KEK      secret.Secret // wraps the signing keys of wallets; may be empty
	OldKEK   secret.Secret // wrapped them before
	Recount  time.Duration // between checks that add up every entry anew
}

func (c *Config) read(r *config.Reader) {
	c.Addr = config.Listen(r, "BUDGET_ADDR", "127.0.0.1:50053")
	r.Doc("BUDGET_ADDR", "where gRPC is served")
	c.Lanes = r.IntBetween("BUDGET_LANES", 1, 1, 16)
	r.Doc("BUDGET_LANES", "ledger batches in flight at once; more than one pays only with more than two cores")
	c.MaxBatch = r.IntBetween("BUDGET_MAX_BATCH", 512, 1, 4096)
	r.Doc("BUDGET_MAX_BATCH", "most operations in one ledger transaction")
	c.MaxQueue = r.IntBetween("BUDGET_MAX_QUEUE", 8192, 1, 1<<20)
	r.Doc("BUDGET_MAX_QUEUE", "operations waiting before new ones are turned away")
	c.MaxConns = r.IntBetween("BUDGET_DB_CONNS", 10, 4, 200)
	r.Doc("BUDGET_DB_CONNS", "most database connections at once")
	c.Fast = r.Bool("BUDGET_FAST_PATH", true)
	r.Doc("BUDGET_FAST_PATH", "decide on balances in memory where they prove right, in one round trip; false: always look first")
	c.Sweep = r.DurationBetween("BUDGET_SWEEP_EVERY", 5*time.Second, 50*time.Millisecond, time.Hour)
	r.Doc("BUDGET_SWEEP_EVERY", "how often holds that ran out are given back")
	c.Check = r.DurationBetween("BUDGET_CHECK_EVERY", time.Minute, 100*time.Millisecond, 24*time.Hour)
	r.Doc("BUDGET_CHECK_EVERY", "how often the counters are checked against the ledger's entries")
	c.KEK = r.Secret("BUDGET_WALLET_KEK", "")
	r.Doc("BUDGET_WALLET_KEK", "key-encryption key for the signing keys of wallets, 32 bytes in base64, kept out of the database; empty: wallets sign nothing")
	c.OldKEK = r.Secret("BUDGET_WALLET_KEK_PREVIOUS", "")
	r.Doc("BUDGET_WALLET_KEK_PREVIOUS", "the one before, while a rotation lasts: every key is rewrapped at the start")
	c.Recount = r.DurationBetween("BUDGET_RECOUNT_EVERY", 24*time.Hour, time.Second, 30*24*time.Hour)
	r.Doc("BUDGET_RECOUNT_EVERY", "how often the check adds up every entry anew, also those it has seen before")
}
