// Package evidence carries a tenant's audit log out of Fulcrum in one file, and
// verifies such a file with nothing but the log's public key.
//
// The file is JSON lines: a header with the signed checkpoint and the public
// key, then every entry that the checkpoint covers, in order. It holds nothing
// that is not evidence, and each line has one spelling, so exports of the same
// checkpoint are the same bytes and every changed byte is found.
package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
)

// Format names the file's format in its header.
const Format = "fulcrum-audit-export/1"

// header is the first line.
type header struct {
	Format      string `json:"format"`
	Origin      string `json:"origin"`
	VerifierKey string `json:"verifier_key"`
	Checkpoint  string `json:"checkpoint"`
}

func (h header) line() []byte {
	b := []byte(`{"format":`)
	b = appendText(b, h.Format)
	b = appendText(append(b, `,"origin":`...), h.Origin)
	b = appendText(append(b, `,"verifier_key":`...), h.VerifierKey)
	b = appendText(append(b, `,"checkpoint":`...), h.Checkpoint)
	return append(b, '}')
}

// entry is every other line:
//
//	{"index":…,"event_id":…,"occurred_at":…,"type":…,"actor":…,"action":…,"resource":…,"decision":…,"policy_version":…,
//	 "leaf":…,"hash":…,"salt":…,"payload":…}
//
// What stands before the leaf repeats the leaf for readers. The hash is the
// leaf's in the tree, and tells which leaf was changed. Salt and payload are
// absent after retention or erasure.
type entry struct {
	index         int64
	leaf, hash    []byte
	salt, payload []byte
}

// line is the one spelling of an entry whose leaf says l.
func (e entry) line(l leaf) []byte {
	b := make([]byte, 0, 512+len(e.leaf)*2+len(e.payload))
	b = strconv.AppendInt(append(b, `{"index":`...), e.index, 10)
	for _, f := range [...]struct{ name, text string }{
		{`,"event_id":`, l.event.String()}, {`,"occurred_at":`, l.at.Format(time.RFC3339Nano)}, {`,"type":`, l.kind}, {`,"actor":`, l.actor},
		{`,"action":`, l.action}, {`,"resource":`, l.resource}, {`,"decision":`, l.decision},
	} {
		b = appendText(append(b, f.name...), f.text)
	}
	b = strconv.AppendInt(append(b, `,"policy_version":`...), l.policyVersion, 10)
	b = appendBytes(append(b, `,"leaf":`...), e.leaf)
	b = appendBytes(append(b, `,"hash":`...), e.hash)
	if e.payload != nil {
		b = appendBytes(append(b, `,"salt":`...), e.salt)
		b = append(append(b, `,"payload":`...), e.payload...)
	}
	return append(b, '}')
}

// readEntry finds the parts of a line that are not repetition. Whether the
// line is their one spelling is for the caller to compare: no parser of JSON
// has a say in what is evidence. The markers cannot stand inside a text, whose
// quotes are escaped.
func readEntry(line []byte) (e entry, ok bool) {
	start, rest, ok := bytes.Cut(line, []byte(`,"event_id":`))
	if !ok {
		return e, false
	}
	digits, ok := bytes.CutPrefix(start, []byte(`{"index":`))
	index, err := strconv.ParseInt(string(digits), 10, 64)
	if !ok || err != nil {
		return e, false
	}
	e.index = index
	if _, rest, ok = bytes.Cut(rest, []byte(`,"leaf":"`)); !ok {
		return e, false
	}
	if e.leaf, rest, ok = cutBytes(rest, `","hash":"`); !ok {
		return e, false
	}
	if e.hash, rest, ok = cutBytes(rest, `"`); !ok || string(rest) == "}" {
		return e, ok
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"salt":"`)); !ok {
		return e, false
	}
	if e.salt, rest, ok = cutBytes(rest, `","payload":`); !ok {
		return e, false
	}
	e.payload, ok = bytes.CutSuffix(rest, []byte("}"))
	return e, ok
}

// cutBytes is what base64 there is before the mark, and what follows the mark.
func cutBytes(b []byte, mark string) (data, rest []byte, ok bool) {
	text, rest, ok := bytes.Cut(b, []byte(mark))
	if !ok {
		return nil, nil, false
	}
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	return data, rest, err == nil
}

func appendBytes(b, data []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), data), '"')
}

func appendText(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return append(append(append(b, '"'), s...), '"')
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(err) // a string is always writable
	}
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

// lineOf is the line for what the server lists.
func lineOf(from *auditv1.Entry) ([]byte, leaf, error) {
	l, err := readLeaf(from.GetLeaf())
	if err != nil {
		return nil, l, at(from.GetIndex(), "%v", err)
	}
	hash := tlog.RecordHash(from.GetLeaf())
	e := entry{index: from.GetIndex(), leaf: from.GetLeaf(), hash: hash[:]}
	if len(from.GetPayload()) > 0 {
		if bytes.ContainsAny(from.GetPayload(), "\r\n") || !json.Valid(from.GetPayload()) {
			return nil, l, fmt.Errorf("entry %d: its payload is not JSON on one line, which this format needs", from.GetIndex())
		}
		e.salt, e.payload = from.GetSalt(), from.GetPayload()
	}
	return e.line(l), l, nil
}
