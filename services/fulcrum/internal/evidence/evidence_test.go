package evidence

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
)

// journal is a log as the audit service keeps it.
type journal struct {
	tenant  uuid.UUID
	signer  note.Signer
	key     note.Verifier
	public  string
	entries []*auditv1.Entry
}

func newJournal(t testing.TB, size int) *journal {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "example.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{tenant: uuid.Must(uuid.NewV7()), public: public}
	if j.signer, err = note.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	if j.key, err = note.NewVerifier(public); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		j.entries = append(j.entries, j.entry(int64(i), fmt.Sprintf(`{"message":"<event> %d ä","n":%d}`, i, i)))
	}
	return j
}

// entry writes the leaf down from its description, field by field.
func (j *journal) entry(index int64, payload string) *auditv1.Entry {
	event, salt := uuid.Must(uuid.NewV7()), []byte("0123456789abcdef")
	leaf := append([]byte{1}, j.tenant[:]...)
	leaf = binary.BigEndian.AppendUint64(leaf, uint64(index))
	leaf = append(leaf, event[:]...)
	leaf = binary.BigEndian.AppendUint64(leaf, uint64(time.Date(2026, 11, 21, 10, 0, int(index%60), 5, time.UTC).UnixNano()))
	for _, text := range []string{"decision_made", "key:abc", "authorize", "tool:\"send\" <mail>", "DENY"} {
		leaf = binary.BigEndian.AppendUint32(leaf, uint32(len(text)))
		leaf = append(leaf, text...)
	}
	leaf = binary.BigEndian.AppendUint64(leaf, 7)
	hash := payloadHash(salt, []byte(payload))
	return &auditv1.Entry{Index: index, EventId: event.String(), Leaf: append(leaf, hash[:]...), Payload: []byte(payload), Salt: salt}
}

func (j *journal) checkpoint(t testing.TB, size int) string {
	t.Helper()
	var tr tree
	for _, e := range j.entries[:size] {
		tr.add(tlog.RecordHash(e.GetLeaf()))
	}
	return j.sign(t, int64(size), tr.root())
}

func (j *journal) sign(t testing.TB, size int64, root tlog.Hash) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s/%s\n%d\n%s\n", j.signer.Name(), j.tenant, size, root)}, j.signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func (j *journal) export(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	x, err := NewExport(&out, j.public, j.checkpoint(t, len(j.entries)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range j.entries {
		if err := x.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func verify(file []byte, o Options) (Report, error) { return Verify(bytes.NewReader(file), o) }

func TestAnExportVerifiesWithNothingButTheKey(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 2, 3, 255, 256, 257, 1000} {
		j := newJournal(t, size)
		if size > 2 {
			j.entries[1].Payload, j.entries[1].Salt = nil, nil // erased
		}
		file := j.export(t)
		report, err := verify(file, Options{Key: j.public})
		if err != nil {
			t.Fatalf("%d entries: %v", size, err)
		}
		if report.Entries != int64(size) || report.Payloads+report.Erased != report.Entries || (size > 2) != (report.Erased == 1) || report.Kept != -1 {
			t.Errorf("%d entries: %+v", size, report)
		}
		if again := j.export(t); !bytes.Equal(file, again) {
			t.Errorf("%d entries: two exports of one checkpoint differ", size)
		}
	}
}

// The tree is RFC 6962's, as another implementation has it.
func TestTheTreeIsTheOneOfTheRFC(t *testing.T) {
	t.Parallel()
	var ours tree
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, read)
		if err != nil {
			t.Fatal(err)
		}
		if ours.root() != want {
			t.Fatalf("root of %d leaves differs", n)
		}
		leaf := tlog.RecordHash(fmt.Append(nil, n))
		hashes, err := tlog.StoredHashesForRecordHash(n, leaf, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		ours.add(leaf)
	}
}

// No byte of a file can be changed unnoticed, whichever it is and however.
func TestEveryChangedByteIsFound(t *testing.T) {
	t.Parallel()
	j := newJournal(t, 3)
	j.entries[1].Payload, j.entries[1].Salt = nil, nil
	file := j.export(t)
	for i := range file {
		for _, flip := range []byte{1, 0x20} {
			changed := bytes.Clone(file)
			changed[i] ^= flip
			if _, err := verify(changed, Options{Key: j.public}); err == nil {
				t.Fatalf("byte %d (%q to %q) was changed and the file verifies", i, file[i], changed[i])
			}
		}
	}
}

func TestTamperingIsPlaced(t *testing.T) {
	t.Parallel()
	j := newJournal(t, 600)
	good := strings.SplitAfter(strings.TrimSuffix(string(j.export(t)), "\n"), "\n") // [0] is the header
	good[len(good)-1] += "\n"
	at := func(entry int) int { return entry + 1 }
	other := newJournal(t, 600)
	foreign := strings.SplitAfter(string(other.export(t)), "\n")

	for _, tt := range []struct {
		name  string
		index int64
		edit  func(lines []string) []string
	}{
		{"payload edited", 300, func(l []string) []string {
			l[at(300)] = strings.Replace(l[at(300)], `"n":300`, `"n":301`, 1)
			return l
		}},
		{"decision edited", 299, func(l []string) []string {
			l[at(299)] = strings.Replace(l[at(299)], `"decision":"DENY"`, `"decision":"ALLOW"`, 1)
			return l
		}},
		{"leaf edited", 17, func(l []string) []string {
			l[at(17)] = strings.Replace(l[at(17)], `"leaf":"AQ`, `"leaf":"AA`, 1)
			return l
		}},
		{"line dropped", 255, func(l []string) []string { return append(l[:at(255)], l[at(256):]...) }},
		{"first line dropped", 0, func(l []string) []string { return append(l[:1], l[2:]...) }},
		{"last line dropped", 599, func(l []string) []string { return l[:at(599)] }},
		{"everything dropped", 0, func(l []string) []string { return l[:1] }},
		{"two lines swapped", 42, func(l []string) []string {
			l[at(42)], l[at(43)] = l[at(43)], l[at(42)]
			return l
		}},
		{"line doubled", 9, func(l []string) []string {
			return append(l[:at(10)], append([]string{l[at(9)]}, l[at(10):]...)...)
		}},
		{"entry of another log", 5, func(l []string) []string {
			l[at(5)] = foreign[at(5)]
			return l
		}},
		{"entry added", 600, func(l []string) []string {
			extra, _, err := lineOf(j.entry(600, "{}"))
			if err != nil {
				t.Fatal(err)
			}
			return append(l, string(extra)+"\n")
		}},
		{"line reformatted", 12, func(l []string) []string {
			l[at(12)] = strings.Replace(l[at(12)], `,"actor"`, `, "actor"`, 1)
			return l
		}},
		{"field added", 13, func(l []string) []string {
			l[at(13)] = strings.Replace(l[at(13)], `,"actor"`, `,"note":"harmless","actor"`, 1)
			return l
		}},
		{"no JSON", 14, func(l []string) []string {
			l[at(14)] = "{}\n"
			return l
		}},
		{"replaced together with its hash", -1, func(l []string) []string {
			forged, _, err := lineOf(j.entry(77, `{"message":"nothing happened"}`))
			if err != nil {
				t.Fatal(err)
			}
			l[at(77)] = string(forged) + "\n"
			return l
		}},
		{"header of another log", -1, func(l []string) []string {
			l[0] = foreign[0]
			return l
		}},
		{"other key in the header", -1, func(l []string) []string {
			l[0] = strings.Replace(l[0], j.public, other.public, 1)
			return l
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := strings.Join(tt.edit(append([]string(nil), good...)), "")
			_, err := verify([]byte(file), Options{Key: j.public})
			found, ok := errors.AsType[*Tampered](err)
			if !ok {
				t.Fatalf("want a Tampered, got %v", err)
			}
			if found.Index != tt.index {
				t.Errorf("placed at %d, want %d: %v", found.Index, tt.index, err)
			}
		})
	}
}

func TestAnotherKeyDoesNotVerify(t *testing.T) {
	t.Parallel()
	j, other := newJournal(t, 5), newJournal(t, 5)
	if _, err := verify(j.export(t), Options{Key: other.public}); !isTampered(err) {
		t.Errorf("got %v", err)
	}
	if _, err := Verifier("nonsense"); err == nil {
		t.Error("nonsense is a key")
	}
}

func TestAFileExtendsTheCheckpointThatWasKept(t *testing.T) {
	t.Parallel()
	j := newJournal(t, 50)
	file := j.export(t)
	for _, size := range []int{1, 20, 50} {
		report, err := verify(file, Options{Key: j.public, Kept: j.checkpoint(t, size)})
		if err != nil || report.Kept != int64(size) {
			t.Errorf("kept at %d: %+v, %v", size, report, err)
		}
	}
	// The same log, rewritten and signed again by somebody who has the key.
	kept := j.checkpoint(t, 20)
	j.entries[10] = j.entry(10, `{"message":"nothing happened"}`)
	if _, err := verify(j.export(t), Options{Key: j.public}); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(j.export(t), Options{Key: j.public, Kept: kept}); !isTampered(err) {
		t.Errorf("rewritten history: %v", err)
	}
	later := j.checkpoint(t, 50)
	j.entries = j.entries[:30]
	if _, err := verify(j.export(t), Options{Key: j.public, Kept: later}); !isTampered(err) {
		t.Errorf("shortened log: %v", err)
	}
	other := newJournal(t, 50)
	if _, err := verify(file, Options{Key: j.public, Kept: other.checkpoint(t, 20)}); !isTampered(err) {
		t.Errorf("checkpoint of another log: %v", err)
	}
}

// A server that lists something else than it signed is found while exporting.
func TestAnExportThatContradictsItsCheckpointFails(t *testing.T) {
	t.Parallel()
	j := newJournal(t, 10)
	signed := j.checkpoint(t, 10)
	j.entries[4] = j.entry(4, `{}`)
	var out bytes.Buffer
	x, err := NewExport(&out, j.public, signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range j.entries {
		if err := x.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); !isTampered(err) {
		t.Errorf("got %v", err)
	}
}

func TestProofsAreChecked(t *testing.T) {
	t.Parallel()
	j := newJournal(t, 100)
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for i, e := range j.entries {
		hashes, err := tlog.StoredHashesForRecordHash(int64(i), tlog.RecordHash(e.GetLeaf()), read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	path, err := tlog.ProveRecord(100, 33, read)
	if err != nil {
		t.Fatal(err)
	}
	proof := &auditv1.GetInclusionProofResponse{Entry: j.entries[33], Checkpoint: j.checkpoint(t, 100), TreeSize: 100}
	for _, h := range path {
		proof.Hashes = append(proof.Hashes, bytes.Clone(h[:]))
	}
	if c, err := CheckProof(j.key, proof); err != nil || c.Size != 100 {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, edit := range map[string]func(p *auditv1.GetInclusionProofResponse){
		"path":       func(p *auditv1.GetInclusionProofResponse) { p.Hashes[0][0] ^= 1 },
		"short path": func(p *auditv1.GetInclusionProofResponse) { p.Hashes = p.Hashes[1:] },
		"short hash": func(p *auditv1.GetInclusionProofResponse) { p.Hashes[2] = nil },
		"leaf":       func(p *auditv1.GetInclusionProofResponse) { p.Entry.Leaf[20] ^= 1 },
		"payload":    func(p *auditv1.GetInclusionProofResponse) { p.Entry.Payload = []byte(`{}`) },
		"event":      func(p *auditv1.GetInclusionProofResponse) { p.Entry.EventId = uuid.NewString() },
		"checkpoint": func(p *auditv1.GetInclusionProofResponse) { p.Checkpoint = j.checkpoint(t, 99) },
		"no entry":   func(p *auditv1.GetInclusionProofResponse) { p.Entry = nil },
	} {
		changed := cloneProof(proof)
		edit(changed)
		if _, err := CheckProof(j.key, changed); !isTampered(err) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func cloneProof(p *auditv1.GetInclusionProofResponse) *auditv1.GetInclusionProofResponse {
	out := &auditv1.GetInclusionProofResponse{Checkpoint: p.GetCheckpoint(), TreeSize: p.GetTreeSize(), Entry: &auditv1.Entry{
		Index: p.GetEntry().GetIndex(), EventId: p.GetEntry().GetEventId(), Leaf: bytes.Clone(p.GetEntry().GetLeaf()),
		Payload: bytes.Clone(p.GetEntry().GetPayload()), Salt: bytes.Clone(p.GetEntry().GetSalt()),
	}}
	for _, h := range p.GetHashes() {
		out.Hashes = append(out.Hashes, bytes.Clone(h))
	}
	return out
}

func isTampered(err error) bool {
	_, ok := errors.AsType[*Tampered](err)
	return ok
}

// Whatever a file holds, it is refused or it is the very export.
func FuzzVerify(f *testing.F) {
	j := newJournal(f, 4)
	file := j.export(f)
	f.Add(file)
	f.Add([]byte("{}"))
	f.Add(bytes.Replace(file, []byte(`"index":2`), []byte(`"index":-2`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := verify(data, Options{Key: j.public}); err == nil && !bytes.Equal(bytes.TrimSuffix(data, []byte("\n")), bytes.TrimSuffix(file, []byte("\n"))) {
			t.Fatal("a file that was not exported verifies")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	const size = 100_000
	j := newJournal(b, 0)
	for i := range int64(size) {
		j.entries = append(j.entries, j.entry(i, `{"message":"`+strings.Repeat("x", 900)+`"}`))
	}
	file := j.export(b)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := verify(file, Options{Key: j.public}); err != nil {
			b.Fatal(err)
		}
	}
}
