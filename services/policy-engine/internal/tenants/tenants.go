// Package tenants keeps the compiled policies of the tenants in use, and keeps
// them current: it loads on demand, follows changes, checks now and then whether
// it missed one, and goes on with the last good version while the store is away.
package tenants

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// Bundle is a tenant's published policies. Version zero is none.
type Bundle struct {
	Version int64
	Content []byte // fulcrum.config.v1.PolicyBundle
}

// Source is where bundles are published. Its answers are current.
type Source interface {
	// Load returns the tenant's bundle, the zero Bundle if there is none.
	Load(ctx context.Context, tenant uuid.UUID) (Bundle, error)
	// Version returns the version that Load would.
	Version(ctx context.Context, tenant uuid.UUID) (int64, error)
}

// Shelf keeps the last good bundle of each tenant for when the Source is away.
// It returns only what was put there for that tenant, unaltered.
type Shelf interface {
	Put(ctx context.Context, tenant uuid.UUID, b Bundle) error
	// Take returns the zero Bundle if there is none.
	Take(ctx context.Context, tenant uuid.UUID) (Bundle, error)
	// Kept returns up to limit tenants that have one: those in use of late.
	Kept(ctx context.Context, limit int) ([]uuid.UUID, error)
}

// How long what is known counts as current without a word from the Source.
// Changes are pushed; this bounds what a lost push can do.
const (
	askAgain    = 10 * time.Second // then ask in the background
	mustAsk     = 30 * time.Second // then ask before answering
	whileAway   = 2 * time.Second  // between questions to a Source that failed
	loadTimeout = 2 * time.Second
	maxWait     = time.Second // for a version that is not here yet
)

// Table holds the tenants. Safe for concurrent use; a reader takes no lock.
type Table struct {
	source   Source
	shelf    Shelf
	compiler *policy.Compiler
	log      *slog.Logger
	capacity int

	entries sync.Map // uuid.UUID to *entry
	count   atomic.Int64
	saves   chan save
	evict   sync.Mutex // held while making room
}

type save struct {
	tenant uuid.UUID
	bundle Bundle
}

// entry is one tenant. Its current set is replaced as a whole.
type entry struct {
	now    atomic.Pointer[current]
	used   atomic.Int64 // Unix nanoseconds
	wanted atomic.Int64 // the newest version that was announced
	asking atomic.Bool
	flight singleflight.Group // of loads
}

// current is what is known of a tenant.
type current struct {
	set      *policy.Set
	degraded bool      // it could not be refreshed, or what is newer does not compile
	asked    time.Time // when the Source was last asked
	refused  int64     // a version that does not compile
}

// New returns an empty table for up to capacity tenants. Run must be running for
// the shelf to be filled. A nil shelf keeps nothing.
func New(source Source, shelf Shelf, compiler *policy.Compiler, capacity int, log *slog.Logger) *Table {
	return &Table{
		source: source, shelf: shelf, compiler: compiler, capacity: capacity, log: log,
		saves: make(chan save, 256),
	}
}

// Set returns the tenant's policies at version atLeast or newer, and whether
// they are known to be behind. It fails with fault.Down when there is no such
// version within a second, or none at all.
func (t *Table) Set(ctx context.Context, tenant uuid.UUID, atLeast int64) (*policy.Set, bool, error) {
	e := t.entry(tenant)
	c := e.now.Load()
	if c == nil {
		if err := t.refresh(ctx, tenant, e); err != nil {
			return nil, false, err
		}
		c = e.now.Load()
	} else if age := time.Since(c.asked); age > askAgain || c.degraded && age > whileAway {
		c = t.overdue(ctx, tenant, e, c, age)
	}
	if c.set.Version() < atLeast {
		return t.await(ctx, tenant, e, atLeast)
	}
	return c.set, c.degraded, nil
}

// overdue asks the Source again. It waits for the answer only when what is known
// is too old to judge by.
func (t *Table) overdue(ctx context.Context, tenant uuid.UUID, e *entry, c *current, age time.Duration) *current {
	if !c.degraded && age > mustAsk {
		if err := t.refresh(ctx, tenant, e); err == nil {
			return e.now.Load()
		}
		return c
	}
	if e.asking.CompareAndSwap(false, true) {
		go func() {
			defer e.asking.Store(false)
			// The error is in the log, and in the entry.
			_ = t.refresh(context.WithoutCancel(ctx), tenant, e)
		}()
	}
	return c
}

// await asks until the version is there.
func (t *Table) await(ctx context.Context, tenant uuid.UUID, e *entry, atLeast int64) (*policy.Set, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := t.refresh(ctx, tenant, e)
		if c := e.now.Load(); c != nil && c.set.Version() >= atLeast {
			return c.set, c.degraded, nil
		}
		select {
		case <-ctx.Done():
			return nil, false, t.tooOld(e, atLeast, err)
		case <-time.After(pause):
		}
	}
}

func (t *Table) tooOld(e *entry, atLeast int64, err error) error {
	have := int64(0)
	if c := e.now.Load(); c != nil {
		have = c.set.Version()
	}
	return fault.New(fault.Down, "policy set version %d is not here yet, the newest is %d", atLeast, have).
		WithReason("POLICY_VERSION_NOT_REACHED").WithRetry(time.Second).WithCause(err)
}

// Len returns how many tenants are kept.
func (t *Table) Len() int { return int(t.count.Load()) }

// Changed takes over a published change. Tenants not in use are left alone:
// they are loaded when they are.
func (t *Table) Changed(ctx context.Context, change *busv1.Event) error {
	tenant, err := uuid.Parse(change.GetTenantId())
	if err != nil {
		return fmt.Errorf("tenant of a configuration change: %w", err)
	}
	v, ok := t.entries.Load(tenant)
	if !ok {
		return nil
	}
	e := v.(*entry)
	version := change.GetConfigVersion()
	for {
		known := e.wanted.Load()
		if version <= known || e.wanted.CompareAndSwap(known, version) {
			break
		}
	}
	if c := e.now.Load(); c == nil || c.set.Version() >= version || c.refused >= version {
		return nil
	}
	if err := t.refresh(ctx, tenant, e); err != nil {
		return err
	}
	if c := e.now.Load(); c.set.Version() < version && c.refused < version {
		// A load that began before the change was joined.
		return t.refresh(ctx, tenant, e)
	}
	return nil
}

// Run compiles what was in use before this instance started, and fills the shelf
// until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	var warming sync.WaitGroup
	defer warming.Wait()
	warming.Go(func() { t.warm(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-t.saves:
			ctx, cancel := context.WithTimeout(ctx, loadTimeout)
			if err := t.shelf.Put(ctx, s.tenant, s.bundle); err != nil && ctx.Err() == nil {
				t.log.LogAttrs(ctx, slog.LevelWarn, "last good policies were not kept",
					slog.String("tenant", s.tenant.String()), slog.Any("error", err))
			}
			cancel()
		}
	}
}

// warm loads the tenants on the shelf, one by one, so that their first callers
// after a start do not wait for a compiler. It fills half of the table at most,
// and gives up when there is nothing to load from.
func (t *Table) warm(ctx context.Context) {
	if t.shelf == nil {
		return
	}
	ids, err := t.shelf.Kept(ctx, t.capacity/2)
	for _, id := range ids {
		if err != nil || ctx.Err() != nil {
			break
		}
		if _, used := t.entries.Load(id); !used {
			_, _, err = t.Set(ctx, id, 0)
		}
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "tenants are warm", slog.Int("tenants", t.Len()), slog.Any("error", err))
}

// entry returns the tenant's entry, new if need be, and marks it used.
func (t *Table) entry(tenant uuid.UUID) *entry {
	now := time.Now().UnixNano()
	if v, ok := t.entries.Load(tenant); ok {
		e := v.(*entry)
		if now-e.used.Load() > int64(time.Second) {
			e.used.Store(now)
		}
		return e
	}
	e := &entry{}
	e.used.Store(now)
	v, loaded := t.entries.LoadOrStore(tenant, e)
	if !loaded && t.count.Add(1) > int64(t.capacity) {
		t.makeRoom()
	}
	return v.(*entry)
}

// makeRoom drops the longest unused tenants, a twentieth of them at once.
func (t *Table) makeRoom() {
	if !t.evict.TryLock() {
		return // somebody else is at it
	}
	defer t.evict.Unlock()
	type old struct {
		tenant any
		used   int64
	}
	var all []old
	t.entries.Range(func(tenant, v any) bool {
		all = append(all, old{tenant, v.(*entry).used.Load()})
		return true
	})
	slices.SortFunc(all, func(a, b old) int { return int(max(-1, min(1, a.used-b.used))) })
	for _, o := range all[:min(len(all), max(1, t.capacity/20))] {
		if _, ok := t.entries.LoadAndDelete(o.tenant); ok {
			t.count.Add(-1)
		}
	}
}

// refresh brings e up to date, together with whoever else wants the same. It
// returns an error when the Source did not answer, unless there was nothing
// before and the shelf helped.
func (t *Table) refresh(ctx context.Context, tenant uuid.UUID, e *entry) error {
	flight := e.flight.DoChan("", func() (any, error) {
		// It serves everybody who waits, so it must not end with one of them.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		return nil, t.load(ctx, tenant, e)
	})
	select {
	case <-ctx.Done():
		return fault.New(fault.Deadline, "the tenant's policies are still being loaded").WithCause(ctx.Err())
	case r := <-flight:
		return r.Err
	}
}

func (t *Table) load(ctx context.Context, tenant uuid.UUID, e *entry) error {
	last := e.now.Load()
	if last != nil {
		version, err := t.source.Version(ctx, tenant)
		if err != nil {
			return t.away(ctx, tenant, e, err)
		}
		if version == last.set.Version() || version == last.refused {
			e.now.Store(&current{set: last.set, degraded: version == last.refused && version != 0, asked: time.Now(), refused: last.refused})
			return nil
		}
	}
	b, err := t.source.Load(ctx, tenant)
	if err != nil {
		return t.away(ctx, tenant, e, err)
	}
	set, err := t.compile(tenant, b)
	if err == nil {
		e.now.Store(&current{set: set, asked: time.Now()})
		t.log.LogAttrs(ctx, slog.LevelInfo, "policies loaded",
			slog.String("tenant", tenant.String()), slog.Int64("version", b.Version))
		t.keep(tenant, b)
		return nil
	}
	t.log.LogAttrs(ctx, slog.LevelError, "published policies do not compile",
		slog.String("tenant", tenant.String()), slog.Int64("version", b.Version), slog.Any("error", err))
	return t.refuse(ctx, tenant, e, b.Version, set, err)
}

// compile returns a set together with a *policy.BrokenError when only some of
// the policies are at fault. A panic of the compiler is an error of the bundle:
// it must not take the other tenants with it.
func (t *Table) compile(tenant uuid.UUID, b Bundle) (set *policy.Set, err error) {
	defer func() {
		if r := recover(); r != nil {
			set, err = nil, fmt.Errorf("compiling panicked: %v", r)
		}
	}()
	if b.Version == 0 {
		return policy.Empty(tenant.String()), nil
	}
	var bundle configv1.PolicyBundle
	if err := proto.Unmarshal(b.Content, &bundle); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if bundle.GetVersion() != b.Version {
		return nil, fmt.Errorf("bundle says version %d, its row %d", bundle.GetVersion(), b.Version)
	}
	return t.compiler.Compile(tenant.String(), &bundle)
}

// refuse keeps the last good policies over a version that does not compile.
// Without any, the policies that do compile judge, and the others fail.
func (t *Table) refuse(ctx context.Context, tenant uuid.UUID, e *entry, version int64, partial *policy.Set, cause error) error {
	good := e.now.Load()
	var set *policy.Set
	switch {
	case good != nil:
		set = good.set
	default:
		if set, _ = t.fromShelf(ctx, tenant, 0); set == nil {
			set = partial
		}
	}
	if set == nil {
		return fault.New(fault.Down, "the tenant's policies cannot be used").WithReason("POLICIES_UNUSABLE").WithCause(cause)
	}
	e.now.Store(&current{set: set, degraded: true, asked: time.Now(), refused: version})
	return nil
}

// away goes on without the Source.
func (t *Table) away(ctx context.Context, tenant uuid.UUID, e *entry, cause error) error {
	if last := e.now.Load(); last != nil {
		e.now.Store(&current{set: last.set, degraded: true, asked: time.Now(), refused: last.refused})
		if !last.degraded {
			t.log.LogAttrs(ctx, slog.LevelWarn, "policies could not be refreshed, the last ones stay",
				slog.String("tenant", tenant.String()), slog.Int64("version", last.set.Version()), slog.Any("error", cause))
		}
		return fault.New(fault.Down, "the store of policies is away").WithCause(cause)
	}
	// The load's own deadline may be what failed; the shelf gets its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	set, err := t.fromShelf(ctx, tenant, e.wanted.Load())
	if set == nil {
		return fault.New(fault.Down, "the tenant's policies cannot be loaded").
			WithReason("POLICIES_UNAVAILABLE").WithRetry(time.Second).WithCause(errors.Join(cause, err))
	}
	e.now.Store(&current{set: set, degraded: true, asked: time.Now()})
	t.log.LogAttrs(ctx, slog.LevelWarn, "policies taken from the last good bundle",
		slog.String("tenant", tenant.String()), slog.Int64("version", set.Version()), slog.Any("error", cause))
	return nil
}

// fromShelf returns the last good policies, nil if there are none or they are
// older than what is known to exist.
func (t *Table) fromShelf(ctx context.Context, tenant uuid.UUID, newest int64) (*policy.Set, error) {
	if t.shelf == nil {
		return nil, nil
	}
	b, err := t.shelf.Take(ctx, tenant)
	if err != nil || b.Version == 0 {
		return nil, err
	}
	if b.Version < newest {
		return nil, fmt.Errorf("last good policies are of version %d, and %d was published", b.Version, newest)
	}
	return t.compile(tenant, b)
}

// keep hands a good bundle to the shelf, without waiting for it.
func (t *Table) keep(tenant uuid.UUID, b Bundle) {
	if t.shelf == nil || b.Version == 0 {
		return
	}
	select {
	case t.saves <- save{tenant, b}:
	default: // the shelf is slow; it is never the only copy
	}
}
