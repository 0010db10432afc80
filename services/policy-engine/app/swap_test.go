package app_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// wire is a connection to a server that can be cut and mended.
type wire struct {
	mu   sync.Mutex // guards cut and open
	cut  bool
	open map[net.Conn]bool
}

// through returns an address that leads to the server of rawURL, in that URL.
func (w *wire) through(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	to := u.Host
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.open = map[net.Conn]bool{}
	t.Cleanup(func() { ln.Close(); w.set(true) })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil || !w.keep(in, out) {
				in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
				}()
			}
		}
	}()
	u.Host = ln.Addr().String()
	return u.String()
}

// keep remembers the two ends, unless the wire is cut.
func (w *wire) keep(in, out net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		out.Close()
		return false
	}
	w.open[in], w.open[out] = true, true
	return true
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.open {
			c.Close()
		}
		w.open = map[net.Conn]bool{}
	}
}

// flipping is version v of the policies: odd ones deny, even ones warn.
func flipping(v int64) *policyv1.Policy {
	action := policyv1.ActionType_ACTION_TYPE_WARN
	if v%2 == 1 {
		action = policyv1.ActionType_ACTION_TYPE_DENY
	}
	p := denies("p", v, action, "shell")
	p.Rules[0].RuleId = fmt.Sprint("rule of ", v)
	return p
}

// one is nil if an answer is by one version in all its parts.
func one(r *policyenginev1.EvaluateResponse) error {
	v := r.GetPolicySetVersion()
	want := governancev1.Decision_DECISION_WARN
	if v%2 == 1 {
		want = governancev1.Decision_DECISION_DENY
	}
	if len(r.GetReasons()) != 1 || r.GetDecision() != want || r.GetReasons()[0].GetRuleId() != fmt.Sprint("rule of ", v) || r.GetReasons()[0].GetVersion() != v {
		return fmt.Errorf("version %d decided %s by %v", v, r.GetDecision(), r.GetReasons())
	}
	return nil
}

// stoodStill is whether the machine did for so long that the evaluation of a
// single rule was given up. Its failure mode is then the right answer.
func stoodStill(r *policyenginev1.EvaluateResponse) bool {
	return len(r.GetResults()) == 1 && strings.Contains(r.GetResults()[0].GetError(), "took too long")
}

const (
	offered  = 2000 // decisions a second
	offering = 16   // callers, who share them
)

// A policy flips a hundred times under two thousand decisions a second; then
// the stores go away in turn, and all at once. Every decision is by exactly one
// version and agrees with it, and none fails. The long form takes longer over each
// change; that the control plane's process can go too is shown where it runs, in
// TestDecisionsGoOnWithoutTheControlPlaneAndItsStores.
func TestDecisionsGoOnWhilePoliciesFlipAndStoresGo(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, 1, flipping(1))
	vars := settings(t, d)
	stores := map[string]*wire{"POSTGRES_CONN_STR": {}, "REDIS_URL": {}, "NATS_URL": {}}
	for name, w := range stores {
		vars[name] = w.through(t, vars[name])
	}
	e := start(t, vars)
	ctx := as(t, tenant)
	if _, err := e.Evaluate(ctx, ask("shell")); err != nil {
		t.Fatal(err)
	}

	done := make(chan struct{})
	var g errgroup.Group
	var decided atomic.Int64
	versions := sync.Map{}
	began := time.Now()
	for range offering {
		g.Go(func() error {
			pace := time.NewTicker(offering * time.Second / offered) // a machine that cannot follow is offered less
			defer pace.Stop()
			for {
				select {
				case <-done:
					return nil
				case <-pace.C:
				}
				r, err := e.Evaluate(as(t, tenant), ask("shell"))
				if err != nil {
					return err
				}
				if stoodStill(r) {
					continue
				}
				if err := one(r); err != nil {
					return err
				}
				versions.Store(r.GetPolicySetVersion(), true)
				decided.Add(1)
			}
		})
	}
	// Long enough for decisions to be made, on a machine however slow.
	further := func(n int64) {
		t.Helper()
		until := decided.Load() + n
		for deadline := time.Now().Add(time.Minute); decided.Load() < until; {
			if time.Now().After(deadline) {
				t.Fatalf("only %d of %d more decisions in a minute", decided.Load()-until+n, n)
			}
			<-time.After(time.Millisecond)
		}
	}
	b, err := bus.Connect(config.NATSSettings{URL: server(t, "TEST_NATS_URL")}, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	each := int64(4)
	if os.Getenv("FULCRUM_TEST_FULL") != "" {
		each = 200 // a tenth of a second
	}
	for v := int64(2); v <= 101; v++ {
		publish(t, d, tenant, v, flipping(v))
		err := b.Publish(t.Context(), &busv1.Event{
			EventId: uuid.NewString(), TenantId: tenant.String(), Stream: busv1.Stream_STREAM_CONFIG, Type: "policies", ConfigVersion: v,
		})
		if err != nil {
			t.Fatal(err)
		}
		further(each)
	}
	t.Logf("%d changes under %.0f decisions a second", 100, float64(decided.Load())/time.Since(began).Seconds())
	for name, w := range stores {
		w.set(true)
		further(100)
		w.set(false)
		t.Logf("without %s: %d decisions so far", name, decided.Load())
	}
	for _, w := range stores {
		w.set(true)
	}
	further(100)
	close(done)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	seen := 0
	versions.Range(func(any, any) bool { seen++; return true })
	t.Logf("%d decisions by %d versions", decided.Load(), seen)
	if seen < 10 {
		t.Errorf("the decisions saw %d versions", seen)
	}
}
