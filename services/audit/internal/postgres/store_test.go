package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/leaf"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

func newLog(t *testing.T, d *dbtest.Database) *trail.Log {
	t.Helper()
	private, _, err := note.GenerateKey(rand.Reader, "test/audit")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := trail.NewSigner(secret.New(private))
	if err != nil {
		t.Fatal(err)
	}
	return trail.New(postgres.New(d.DB), signer, func() []byte {
		b := make([]byte, leaf.SaltSize)
		_, _ = rand.Read(b)
		return b
	}, quiet{})
}

type quiet struct{}

func (quiet) Appended(int, time.Duration) {}
func (quiet) Unsigned(int)                {}
func (quiet) Refused()                    {}

func facts(n int) []trail.Fact {
	out := make([]trail.Fact, n)
	for i := range out {
		out[i] = trail.Fact{
			Leaf:    leaf.Leaf{Event: uuid.Must(uuid.NewV7()), At: time.Now(), Type: "decision_made", Actor: "key:k", Action: "authorize", Resource: fmt.Sprint(i)},
			Payload: fmt.Appendf(nil, `{"n":%d}`, i),
		}
	}
	return out
}

func appendAll(t *testing.T, l *trail.Log, tenant uuid.UUID, fs []trail.Fact) {
	t.Helper()
	if err := l.Append(t.Context(), tenant, fs); err != nil {
		t.Fatal(err)
	}
	if err := l.SignNew(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, l *trail.Log, tenant, event uuid.UUID) {
	t.Helper()
	p, err := l.Include(t.Context(), tenant, event)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(p.Checkpoint.Note), note.VerifierList(verifier)); err != nil {
		t.Errorf("checkpoint does not open: %v", err)
	}
	var proof tlog.RecordProof
	for _, h := range p.Hashes {
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.CheckRecord(proof, p.Checkpoint.Size, p.Checkpoint.Root, p.Entry.Index, tlog.RecordHash(p.Entry.Bytes)); err != nil {
		t.Error(err)
	}
	if leaf.PayloadHash(p.Entry.Salt, p.Entry.Payload) != p.Entry.PayloadHash {
		t.Error("the payload is not what the leaf hashed")
	}
}

func TestEveryAppendedEventCanBeProven(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	l, tenant := newLog(t, d), dbtest.Tenant(t, d)
	var all []trail.Fact
	for _, n := range []int{1, 3, 300, 256, 2} {
		fs := facts(n)
		appendAll(t, l, tenant, fs)
		all = append(all, fs...)
	}
	for _, i := range []int{0, 1, 255, 256, 303, 560, len(all) - 1} {
		verify(t, l, tenant, all[i].Leaf.Event)
	}
	if _, err := l.Extend(t.Context(), tenant, 4, 0); err != nil {
		t.Errorf("consistency from 4: %v", err)
	}
}

func TestTheSameEventsAgainChangeNothing(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	l, tenant, fs := newLog(t, d), dbtest.Tenant(t, d), facts(5)
	appendAll(t, l, tenant, fs)
	before, err := l.Latest(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, tenant, append(fs, fs...))
	// Even after the inbox has forgotten them.
	dbtest.Admin(t, d, `delete from fulcrum.inbox`)
	appendAll(t, l, tenant, fs)
	after, err := l.Latest(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	if before.Head != after.Head {
		t.Errorf("head moved from %d to %d", before.Size, after.Size)
	}
}

func TestSequencersRacingMakeOneLogWithoutGaps(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	l, tenant := newLog(t, d), dbtest.Tenant(t, d)
	const writers, each = 8, 12
	var race sync.WaitGroup
	errs := make(chan error, writers*each)
	for range writers {
		race.Go(func() {
			for range each {
				errs <- errors.Join(l.Append(context.Background(), tenant, facts(3)), l.SignNew(context.Background(), tenant))
			}
		})
	}
	race.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	entries, err := l.Entries(t.Context(), tenant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != writers*each*3 {
		t.Errorf("%d entries, want %d", len(entries), writers*each*3)
	}
	for i, e := range entries {
		if e.Index != int64(i) {
			t.Fatalf("entry %d stands at %d", e.Index, i)
		}
	}
	verify(t, l, tenant, entries[0].Event)
}

// What an insider can do to the tables, past every grant and trigger, must
// never get a signature.
func TestATamperedLogIsNotSigned(t *testing.T) {
	t.Parallel()

	for name, tamper := range map[string]string{
		"a leaf's bytes are changed": `update fulcrum.audit_leaves set leaf = set_byte(leaf, length(leaf) - 1, get_byte(leaf, length(leaf) - 1) # 1) where index = 7`,
		"a leaf is deleted":          `delete from fulcrum.audit_payloads where index = 7; delete from fulcrum.audit_leaves where index = 7`,
		"two leaves change places":   `update fulcrum.audit_leaves a set leaf = b.leaf from fulcrum.audit_leaves b where (a.index, b.index) in ((6, 7), (7, 6))`,
		"a hash is changed":          `update fulcrum.audit_tiles set hashes = set_byte(hashes, 7 * 32, get_byte(hashes, 7 * 32) # 1) where level = 0`,
		"the head is rolled back":    `update fulcrum.audit_heads set size = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			d := dbtest.New(t)
			l, tenant := newLog(t, d), dbtest.Tenant(t, d)
			appendAll(t, l, tenant, facts(5))
			if err := l.Append(t.Context(), tenant, facts(5)); err != nil {
				t.Fatal(err)
			}
			dbtest.Admin(t, d, `set session_replication_role = replica; `+tamper)
			if err := l.SignNew(t.Context(), tenant); err == nil {
				t.Error("it was signed")
			}
			c, err := l.Latest(t.Context(), tenant)
			if err != nil || c.Size != 5 {
				t.Errorf("newest checkpoint is over %d entries (%v), want the honest 5", c.Size, err)
			}
		})
	}
}

func TestEntriesCannotBeChangedByTheService(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	l, tenant := newLog(t, d), dbtest.Tenant(t, d)
	appendAll(t, l, tenant, facts(1))
	if got := dbtest.Count(t, d, `select count(*) from information_schema.role_table_grants
		where grantee = 'fulcrum_app' and table_schema = 'fulcrum' and table_name in ('audit_leaves', 'audit_blocks', 'audit_payloads')
		and privilege_type not in ('SELECT', 'INSERT')`); got != 0 {
		t.Errorf("the app role holds %d privileges beyond select and insert", got)
	}
}

func TestAnotherTenantsEventsAreNotFound(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	l, owner, other, fs := newLog(t, d), dbtest.Tenant(t, d), dbtest.Tenant(t, d), facts(1)
	appendAll(t, l, owner, fs)
	appendAll(t, l, other, facts(1))
	_, foreign := l.Include(t.Context(), other, fs[0].Leaf.Event)
	_, random := l.Include(t.Context(), other, uuid.New())
	if !errors.Is(foreign, fault.NotFound) || !errors.Is(random, fault.NotFound) {
		t.Errorf("foreign: %v, random: %v", foreign, random)
	}
}

func TestAnEntryBeyondTheCheckpointIsNotProvenYet(t *testing.T) {
	t.Parallel()

	d := dbtest.New(t)
	l, tenant, fs := newLog(t, d), dbtest.Tenant(t, d), facts(2)
	// Nor is the first, before there is any.
	other := dbtest.Tenant(t, d)
	if err := l.Append(t.Context(), other, fs[:1]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Include(t.Context(), other, fs[0].Leaf.Event); !fault.HasReason(err, "AUDIT_NOT_SIGNED_YET") {
		t.Errorf("without a checkpoint: %v", err)
	}
	appendAll(t, l, tenant, fs[:1])
	if err := l.Append(t.Context(), tenant, fs[1:]); err != nil {
		t.Fatal(err)
	}
	_, err := l.Include(t.Context(), tenant, fs[1].Leaf.Event)
	if !fault.HasReason(err, "AUDIT_NOT_SIGNED_YET") {
		t.Errorf("got %v", err)
	}
}
