package evidence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Report says what was verified.
type Report struct {
	Origin      string
	Key         string // name of the key that signed
	Entries     int64
	Root        tlog.Hash
	Payloads    int64 // present, each equal to its hash
	Erased      int64 // absent: retention or erasure
	First, Last time.Time
	Kept        int64 // entries of the checkpoint that was kept; -1: there was none
}

// Options say what a file is verified against.
type Options struct {
	Key string // the log's public key, as its owner published it
	// Kept is a signed checkpoint from earlier, or "": the file must extend it.
	Kept string
	// Progress is told how many entries were read, now and then; may be nil.
	Progress func(entries int64)
}

const (
	maxLine  = 16 << 20
	perChunk = 256
)

// Verify reads an export and checks everything in it: the checkpoint's
// signature, every leaf in its place, every payload's hash, and that the tree of
// the leaves is the one that was signed. The error of a file that does not hold
// is a Tampered, and names the first entry that is wrong.
func Verify(r io.Reader, o Options) (Report, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	report := Report{Kept: -1}
	v, err := Verifier(o.Key)
	if err != nil {
		return report, err
	}
	first, err := readLine(in)
	if err != nil && !errors.Is(err, io.EOF) {
		return report, fmt.Errorf("read the header: %w", err)
	}
	c, err := readHeader(first, v, strings.TrimSpace(o.Key))
	if err != nil {
		return report, err
	}
	l := ledger{tenant: c.Tenant, signed: c.Size}
	if o.Kept != "" {
		kept, err := Open(o.Kept, v)
		if err != nil {
			return report, fmt.Errorf("the kept checkpoint: %w", err)
		}
		if kept.Origin != c.Origin {
			return report, whole("the kept checkpoint is of the log %s", kept.Origin)
		}
		l.kept = &kept
	}
	if err := each(in, &l, o.Progress); err != nil {
		return report, err
	}
	if err := l.agrees(c); err != nil {
		return report, err
	}
	report.Origin, report.Key, report.Entries, report.Root = c.Origin, v.Name(), l.tree.size, c.Root
	report.Payloads, report.Erased, report.First, report.Last = l.payloads, l.erased, l.first, l.last
	if l.kept != nil {
		report.Kept = l.kept.Size
	}
	return report, nil
}

func readHeader(line []byte, v note.Verifier, key string) (Checkpoint, error) {
	var h header
	if err := json.Unmarshal(line, &h); err != nil || h.Format != Format {
		return Checkpoint{}, fmt.Errorf("this is no export of an audit log: its first line does not say %q", Format)
	}
	c, err := Open(h.Checkpoint, v)
	if err != nil {
		return c, err
	}
	switch {
	case !bytes.Equal(h.line(), line):
		return c, whole("the first line was changed")
	case h.Origin != c.Origin:
		return c, whole("the first line says log %q, the checkpoint %q", h.Origin, c.Origin)
	case h.VerifierKey != key:
		return c, whole("the first line shows another public key than the one that signed")
	}
	return c, nil
}

// EmbeddedKey is the public key that a file shows itself, and rewinds the file.
// It proves nothing about who made the file.
func EmbeddedKey(file io.ReadSeeker) (string, error) {
	line, err := readLine(bufio.NewReader(file))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil || h.Format != Format {
		return "", fmt.Errorf("this is no export of an audit log: its first line does not say %q", Format)
	}
	_, err = file.Seek(0, io.SeekStart)
	return h.VerifierKey, err
}

// readLine returns the next line without its break; io.EOF after the last.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < maxLine:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a line has more than %d bytes", maxLine)
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}

// chunk is some lines and, once done is closed, what they say.
type chunk struct {
	lines [][]byte
	seen  []seen
	err   error // of reading
	done  chan struct{}
}

// each has every line examined on all cores and enters them in order.
func each(in *bufio.Reader, l *ledger, progress func(int64)) error {
	width := runtime.GOMAXPROCS(0)
	ordered, work, stop := make(chan *chunk, 2*width), make(chan *chunk, 2*width), make(chan struct{})
	defer close(stop)
	go readChunks(in, ordered, work, stop)
	for range width {
		go func() {
			for c := range work {
				for _, line := range c.lines {
					c.seen = append(c.seen, examine(line))
				}
				close(c.done)
			}
		}()
	}
	for c := range ordered {
		<-c.done
		for _, s := range c.seen {
			if err := l.enter(s); err != nil {
				return err
			}
		}
		if c.err != nil {
			return fmt.Errorf("read entry %d: %w", l.tree.size, c.err)
		}
		if progress != nil {
			progress(l.tree.size)
		}
	}
	return nil
}

func readChunks(in *bufio.Reader, ordered, work chan<- *chunk, stop <-chan struct{}) {
	defer close(ordered)
	defer close(work)
	for ended := false; !ended; {
		c := &chunk{done: make(chan struct{})}
		for len(c.lines) < perChunk && !ended {
			line, err := readLine(in)
			if ended = err != nil; ended {
				if !errors.Is(err, io.EOF) {
					c.err = err
				}
				break
			}
			c.lines = append(c.lines, line)
		}
		for _, to := range []chan<- *chunk{ordered, work} {
			select {
			case to <- c:
			case <-stop:
				return
			}
		}
	}
}

// seen is what one line says, by itself.
type seen struct {
	index   int64
	tenant  uuid.UUID
	at      time.Time
	hash    tlog.Hash // of the leaf
	payload bool
	err     error
}

// examine checks a line by itself.
func examine(line []byte) (s seen) {
	s.index = -1
	e, ok := readEntry(line)
	if !ok {
		s.err = errors.New("the line is not an entry")
		return s
	}
	s.index = e.index
	s.hash = tlog.RecordHash(e.leaf)
	if !bytes.Equal(s.hash[:], e.hash) {
		s.err = errors.New("the leaf was changed: it does not have the hash beside it")
		return s
	}
	l, err := readLeaf(e.leaf)
	if err != nil {
		s.err = err
		return s
	}
	s.tenant, s.at, s.payload = l.tenant, l.at, e.payload != nil
	switch {
	case s.payload && payloadHash(e.salt, e.payload) != l.payloadHash:
		s.err = errors.New("the payload was changed: it does not have the hash in the leaf")
	case e.index != l.index:
		s.err = fmt.Errorf("the leaf is that of entry %d", l.index)
	case !bytes.Equal(e.line(l), line):
		s.err = errors.New("the line was changed: it does not say what its leaf says")
	}
	return s
}

// ledger enters what lines say, in order.
type ledger struct {
	tenant uuid.UUID
	signed int64       // how many entries were signed; 0: not known
	kept   *Checkpoint // may be nil

	tree             tree
	payloads, erased int64
	first, last      time.Time
}

func (l *ledger) enter(s seen) error {
	due := l.tree.size
	switch {
	case s.err != nil && s.index < 0:
		return at(due, "%v", s.err)
	case s.index > due:
		return at(due, "it is missing or not in its place: entry %d stands there", s.index)
	case s.err != nil:
		return at(due, "%v", s.err)
	case s.index < due:
		return at(s.index, "it is there twice or not in its place: entry %d should stand there", due)
	case s.tenant != l.tenant:
		return at(due, "the leaf is of another tenant's log")
	case l.signed > 0 && due >= l.signed:
		return at(due, "it is not covered by the checkpoint, which is over %d entries", l.signed)
	}
	l.tree.add(s.hash)
	if l.kept != nil && l.tree.size == l.kept.Size && l.tree.root() != l.kept.Root {
		return whole("the first %d entries are not those of the kept checkpoint: history was rewritten", l.kept.Size)
	}
	if s.payload {
		l.payloads++
	} else {
		l.erased++
	}
	if due == 0 {
		l.first = s.at
	}
	l.last = s.at
	return nil
}

// agrees returns a Tampered unless exactly the entries of c were entered.
func (l *ledger) agrees(c Checkpoint) error {
	switch {
	case l.tree.size != c.Size:
		return at(l.tree.size, "it is missing: the checkpoint is over %d entries, and the file ends here", c.Size)
	case l.tree.root() != c.Root:
		return whole("the tree of the %d entries does not have the root that was signed: at least one entry was replaced together with its hash", c.Size)
	case l.kept != nil && l.kept.Size > c.Size:
		return whole("the kept checkpoint is over %d entries, this file over %d: newer entries were left out", l.kept.Size, c.Size)
	}
	return nil
}

// checkPath verifies an RFC 6962 audit path.
func checkPath(c Checkpoint, s seen, path [][]byte) error {
	proof := make(tlog.RecordProof, len(path))
	for i, h := range path {
		if len(h) != tlog.HashSize {
			return at(s.index, "a hash of the proof has %d bytes", len(h))
		}
		proof[i] = tlog.Hash(h)
	}
	if tlog.CheckRecord(proof, c.Size, c.Root, s.index, s.hash) != nil {
		return at(s.index, "the proof does not lead from the leaf to the signed root")
	}
	return nil
}
