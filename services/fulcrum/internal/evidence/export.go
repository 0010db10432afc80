package evidence

import (
	"bufio"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"

	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
)

// Export writes an export and verifies it on the way.
type Export struct {
	out    *bufio.Writer
	log    Checkpoint
	ledger ledger
}

// NewExport begins an export of the log up to a signed checkpoint.
func NewExport(w io.Writer, key, signed string) (*Export, error) {
	key = strings.TrimSpace(key)
	v, err := Verifier(key)
	if err != nil {
		return nil, err
	}
	c, err := Open(signed, v)
	if err != nil {
		return nil, err
	}
	x := &Export{out: bufio.NewWriterSize(w, 64<<10), log: c, ledger: ledger{tenant: c.Tenant}}
	return x, x.write(header{Format: Format, Origin: c.Origin, VerifierKey: key, Checkpoint: signed}.line())
}

// Size is how many entries the export takes, from 0 on.
func (x *Export) Size() int64 { return x.log.Size }

// Add writes the next entry. Entries beyond the checkpoint are not accepted.
func (x *Export) Add(from *auditv1.Entry) error {
	line, _, err := lineOf(from)
	if err != nil {
		return err
	}
	if err := x.ledger.enter(examine(line)); err != nil {
		return err
	}
	return x.write(line)
}

// Close writes what is left. Its error is a Tampered if the entries are not
// those that the checkpoint was signed over.
func (x *Export) Close() error {
	if err := x.ledger.agrees(x.log); err != nil {
		return err
	}
	return x.out.Flush()
}

func (x *Export) write(line []byte) error {
	if _, err := x.out.Write(line); err != nil {
		return err
	}
	return x.out.WriteByte('\n')
}

// CheckProof verifies that an entry is in the log of a checkpoint signed by v,
// and returns the checkpoint.
func CheckProof(v note.Verifier, p *auditv1.GetInclusionProofResponse) (Checkpoint, error) {
	c, err := Open(p.GetCheckpoint(), v)
	if err != nil {
		return c, err
	}
	line, l, err := lineOf(p.GetEntry())
	if err != nil {
		return c, err
	}
	seen := examine(line)
	switch {
	case seen.err != nil:
		return c, at(p.GetEntry().GetIndex(), "%v", seen.err)
	case seen.tenant != c.Tenant:
		return c, at(seen.index, "the leaf is of another tenant's log")
	case l.event.String() != p.GetEntry().GetEventId():
		return c, at(seen.index, "the leaf is of the event %s", l.event)
	}
	return c, checkPath(c, seen, p.GetHashes())
}
