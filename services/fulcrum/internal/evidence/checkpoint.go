package evidence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a signed tree head whose signature was found good.
type Checkpoint struct {
	Origin string // "<key name>/<tenant>"
	Tenant uuid.UUID
	Size   int64
	Root   tlog.Hash
}

// Open verifies a signed note (C2SP tlog-checkpoint) and reads it. The error of
// one that is not signed by v is a Tampered.
func Open(signed string, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, whole("the checkpoint is not signed by %s", v.Name())
	}
	if !canonical(signed[len(n.Text):]) {
		return Checkpoint{}, whole("the checkpoint's signature is spelled in another way than it was made")
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 {
		return Checkpoint{}, whole("the checkpoint has fewer than three lines")
	}
	c := Checkpoint{Origin: lines[0]}
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 {
		return Checkpoint{}, whole("the checkpoint's size %q is no number", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return Checkpoint{}, whole("the checkpoint's root %q is no hash", lines[2])
	}
	tenant, ok := strings.CutPrefix(c.Origin, v.Name()+"/")
	if c.Tenant, err = uuid.Parse(tenant); err != nil || !ok {
		return Checkpoint{}, whole("the checkpoint is of %q, which is no log of %s", c.Origin, v.Name())
	}
	return c, nil
}

// canonical reports whether the signatures of a note are spelled in the one way
// that base64 has: the last of its characters may say the same in four.
func canonical(signatures string) bool {
	for line := range strings.Lines(signatures) {
		_, text, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "— "), " ")
		if _, err := base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return false
		}
	}
	return true
}

// Verifier reads a public key "<name>+<hash>+<key>".
func Verifier(key string) (note.Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return nil, errors.New("this is not a public key of an audit log: it looks like <name>+<8 hex digits>+<base64>")
	}
	return v, nil
}

// Tampered says that evidence does not hold.
type Tampered struct {
	Index int64 // of the entry, -1 if it cannot be told
	What  string
}

// Error names the entry, if it is known.
func (t *Tampered) Error() string {
	if t.Index < 0 {
		return t.What
	}
	return fmt.Sprintf("entry %d: %s", t.Index, t.What)
}

func whole(format string, a ...any) *Tampered { return at(-1, format, a...) }

func at(index int64, format string, a ...any) *Tampered {
	return &Tampered{Index: index, What: fmt.Sprintf(format, a...)}
}
