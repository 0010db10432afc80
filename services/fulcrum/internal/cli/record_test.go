package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDecisionsApprovalsAndEnvelopes(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	dir := write(t, map[string]string{"refunds.yaml": refunds})
	acme.types("policy push " + dir).exits(exitOK)
	acme.eventually(exited(exitApproval), "policy evaluate --tool issue_refund --arg order.amount=500")
	acme.types("decision list").exits(exitOK).says("no decisions")
	acme.types("envelope list").exits(exitOK).says("no envelopes")

	acme.types("policy evaluate --dry-run=false --tool look --workflow tour --attribute region=eu").exits(exitOK).says("next: fulcrum decision get ")
	acme.types("policy evaluate --dry-run=false --tool issue_refund --arg order.amount=500 --workflow tour").exits(exitApproval)
	acme.types("decision list --decision require-approval").exits(exitOK).shows("REQUIRE_APPROVAL", "tool_call issue_refund", "tour")
	acme.types("decision list --limit 1").exits(exitOK).says("the first 1 are shown")
	acme.types("decision list --since 1h --until 2000-01-01").exits(exitOK).says("no decisions")
	acme.types("decision list --since yesterday").exits(exitUsage).says("is no time", "7d")
	acme.types("decision list --decision dney").exits(exitUsage).says(`did you mean "deny"?`)
	var list struct {
		Decisions []struct {
			Response struct {
				DecisionID string `json:"decision_id"`
				EnvelopeID string `json:"envelope_id"`
			}
		}
	}
	acme.types("decision list --decision allow -o json").exits(exitOK).json(&list)
	allowed := list.Decisions[0].Response
	acme.types("decision get "+allowed.DecisionID).exits(exitOK).says("next: fulcrum audit prove "+allowed.DecisionID).
		shows("ALLOW  allowed\n", "action      tool_call look\n", "workflow    tour\n", "attributes  region=eu\n")
	acme.types("decision get nonsense").exits(exitFailure).says("INVALID_ARGUMENT VALIDATION_FAILED: decision_id", "next: fulcrum decision get --help")

	// The reviewer is who holds the key.
	dana := newShell(t, issue(t, acme.id, "--scope=approval:read", "--scope=approval:write", "--user=dana", "--role=finance-lead"))
	var open struct {
		Approvals []struct {
			ApprovalID string `json:"approval_id"`
		}
	}
	dana.types("approval list").exits(exitOK).shows("PENDING", "issue_refund", `{"order":{"amount":500}}`, "refunds", "finance-lead").says("next: fulcrum approval approve ")
	dana.types("approval list -o json").exits(exitOK).json(&open)
	acme.types("approval approve " + open.Approvals[0].ApprovalID).exits(exitFailure).says("fulcrum: ")
	dana.types("approval approve --note checked "+open.Approvals[0].ApprovalID).exits(exitOK).shows("APPROVED", "dana").says("next: fulcrum approval list")
	dana.types("approval reject " + open.Approvals[0].ApprovalID).exits(exitFailure).says("fulcrum: ")
	dana.types("approval list").exits(exitOK).says("nothing waits for you")
	dana.types("approval list --status all").exits(exitOK).shows("APPROVED")

	acme.types("envelope list --status running").exits(exitOK).shows("RUNNING", "tour", allowed.EnvelopeID)
	acme.types("envelope get "+allowed.EnvelopeID).exits(exitOK).shows("status     RUNNING\n", "cost       $0.00").says("next: fulcrum decision list --envelope ")
	acme.types("envelope terminate " + allowed.EnvelopeID).exits(exitUsage).says("--yes")
	acme.types("envelope terminate --yes --reason runaway " + allowed.EnvelopeID).exits(exitOK).shows("TERMINATED").says("0 descendants")
	acme.types("policy evaluate --tool look --envelope " + allowed.EnvelopeID).exits(exitDenied).shows("the envelope is TERMINATED")
}

func TestMoneyIsShownAsItStands(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	acme.types("budget create daily --cost 2 --period daily").exits(exitOK)
	acme.eventually(exited(exitOverBudget), "policy evaluate --tool crawl --cost 2.01")
	acme.types("policy evaluate --tool crawl --cost 0.5 --dry-run=false --workflow w").exits(exitOK).shows("BUDGET", "daily")
	acme.types("budget status").exits(exitOK).golden(`
BUDGET  STATUS  OF    LIMIT  SPENT   HELD   LEFT  USED  RESETS
daily   OK      cost  $2.00  $0.00  $0.50  $1.50  0.0%  TIME
`)
	acme.types("budget status daily -o json").exits(exitOK).shows(`"name": "daily"`, `"current_spend": {`)
	acme.types("budget get daily").exits(exitOK).shows("max_cost_usd: 2\n")
	acme.types("budget status dayly").exits(exitFailure).says(`did you mean "daily"?`)
	acme.types("spend --by workflow --since 1d").exits(exitOK).says("from ").golden(`
WORKFLOW   COST  INPUT TOKENS  OUTPUT TOKENS  MODEL CALLS  TOOL CALLS
total     $0.00             0              0            0           0
`)
	acme.types("spend --executions --time-zone Asia/Tokyo --by day").exits(exitOK).shows("EXECUTIONS", "TERMINATED")
	acme.eventually(func(r result) bool { return strings.Contains(r.out, `"total_executions": 1,`) }, "spend --by workflow -o json")
	acme.types("budget list --status ok").exits(exitOK).shows("daily")
	acme.types("budget list --status exceeded").exits(exitOK).says("no such budgets")
	acme.types("predict budget daily").exits(exitOK).shows("do            NONE", "not used yet", "left          $1.50")
	acme.types("predict budget daily -o json").exits(exitOK).shows(`"recommended_action": "RECOMMENDED_ACTION_NONE"`, `"unit": "cost_usd"`)
	acme.types("predict cost --model gpt-4o --input-tokens 2000").exits(exitOK).shows("gpt-4o", "confidence  low", "price list", "2,000 in, 1,000 out")
	acme.types("predict cost --model nobodys").exits(exitFailure).says("PRICE_UNKNOWN", "nobodys")
	acme.types("predict models").exits(exitOK).says("no workflow ran")
	acme.types("spend --by flavour").exits(exitUsage).says("must be one of model, day")
	acme.types("budget delete daily").exits(exitUsage).says("Nothing limits", "--yes")
	acme.types("budget delete daily --yes").exits(exitOK)
	acme.types("budget list").exits(exitOK).says("no budgets")
}

// A tail goes on after its connection was lost, and misses and repeats nothing.
func TestATailSurvivesItsConnection(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	wire := newWire(t, running.GRPCAddr)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	const decisions = 9
	out := newScreen()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"decision", "tail", "-o", "json", "--max", fmt.Sprint(decisions), "--from", "1"},
			surroundings{getenv: acme.with("FULCRUM_SERVER", wire.addr()).getenv(), in: strings.NewReader(""), out: out, err: out.messages()})
	}()
	for i := range decisions {
		acme.types(fmt.Sprintf("policy evaluate --dry-run=false --tool tool-%d", i)).exits(exitOK)
		out.await(ctx, t, i+1)
		if i%3 == 1 {
			wire.cut()
		}
	}
	if code := <-ended; code != exitOK {
		t.Fatalf("exit %d\n%s", code, out.said())
	}
	for i, line := range out.lines() {
		var d struct{ Action struct{ Name string } }
		if err := json.Unmarshal([]byte(line), &d); err != nil || d.Action.Name != fmt.Sprintf("tool-%d", i) {
			t.Errorf("line %d: %v %s", i, err, line)
		}
	}
	if said := out.said(); !strings.Contains(said, "the connection was lost") || !strings.Contains(said, "next: to go on from here: fulcrum decision tail --from ") {
		t.Errorf("messages: %s", said)
	}
}

func TestEventsAreListedAndFollowed(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	acme.types("policy evaluate --dry-run=false --tool look --workflow tour").exits(exitOK)
	acme.eventually(func(r result) bool { return strings.Contains(r.out, "tour") }, "event list --type decision_made").
		shows("SEQUENCE", "decision_made", "tour", "allowed")
	acme.types("event list --oldest-first --limit 1").exits(exitOK).shows("tenant_created").says("the first 1 are shown")
	tail := acme.types("event tail --from 1 --max 2").exits(exitOK).says("--from 3")
	if lines := strings.Split(tail.out, "\n"); len(lines) != 4 || strings.Index(lines[0], "TIME") != strings.Index(lines[1], "20") {
		t.Errorf("not aligned:\n%s", tail.out)
	}
	acme.types("event tail --since 1h --max 1 -o json").exits(exitOK).shows(`"event_type":"tenant_created"`)
	acme.types("event tail --for 50ms").exits(exitOK).says("to go on from here")
	acme.types("event tail --from 1 --since 1h").exits(exitUsage)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	acme.typesUntil(done, "event tail").exits(exitFailure).says("interrupted")
}

func TestTheLogIsExportedAndVerified(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	acme.types("policy evaluate --dry-run=false --tool look").exits(exitOK)
	var list struct {
		Decisions []struct {
			Response struct {
				DecisionID string `json:"decision_id"`
			}
		}
	}
	acme.types("decision list -o json").exits(exitOK).json(&list)
	id := list.Decisions[0].Response.DecisionID
	acme.types("audit prove --wait 15s "+id).exits(exitOK).shows("event     "+id, "decision  ALLOW", "proof     verified: ")
	acme.types("audit prove --wait 0 01a1fded-d2d8-7cf5-a33a-12f85d2852f1").exits(exitFailure).says("NOT_FOUND")

	dir := t.TempDir()
	kept := filepath.Join(dir, "checkpoint.txt")
	put(t, dir, "checkpoint.txt", acme.types("audit checkpoint").exits(exitOK).says("entries, signed").shows(acme.id).out)
	acme.types("agent create later").exits(exitOK)
	acme.eventually(func(r result) bool { return strings.Contains(r.out, "agent.create") },
		"audit prove --wait 15s "+strings.TrimSpace(idOf(acme.eventually(func(r result) bool { return strings.Contains(r.out, "agent_created") }, "event list --type agent_created -o json"))))
	file := filepath.Join(dir, "log.jsonl")
	acme.types("audit export " + file).exits(exitOK).shows("wrote ").says("next: fulcrum audit verify")
	if stdout := acme.types("audit export -").exits(exitOK); !strings.HasPrefix(stdout.out, `{"format":"fulcrum-audit-export/1"`) {
		t.Errorf("exported %q", stdout.out)
	}

	// Nothing of what follows asks a server.
	offline := shell{t: t, env: map[string]string{"FULCRUM_SERVER": "127.0.0.1:1"}}
	key := between(read(t, file), `"verifier_key":"`, `"`)
	offline.types("audit verify "+file, "--key", key).exits(exitOK).shows("signature  good", "in its place and unchanged", "0 were taken away", "result     verified")
	offline.with("FULCRUM_AUDIT_PUBLIC_KEY", key).types("audit verify -o json "+file).exits(exitOK).shows(`"verified": true`, acme.id)
	offline.types("audit verify "+file, "--key", key, "--checkpoint", kept).exits(exitOK).shows("are those of the kept checkpoint")
	offline.types("audit verify " + file).exits(exitUsage).says("--key")
	offline.types("audit verify --trust-embedded-key " + file).exits(exitOK).shows("from the file itself")
	put(t, dir, "log.pub", key+"\n")
	offline.types("audit verify "+file, "--key", filepath.Join(dir, "log.pub")).exits(exitOK)
	offline.types("audit verify "+kept, "--key", key).exits(exitFailure).says("no export of an audit log")

	// The export is what the log holds, and every forgery of it is placed.
	good := strings.SplitAfter(read(t, file), "\n")
	for name, forge := range map[string]func(lines []string) (index string){
		"byte flipped": func(l []string) string {
			l[3] = strings.Replace(l[3], `"payload":{"action"`, `"payload":{"actiom"`, 1)
			return "2"
		},
		"line dropped":   func(l []string) string { l[2] = ""; return "1" },
		"lines swapped":  func(l []string) string { l[2], l[3] = l[3], l[2]; return "1" },
		"end cut off":    func(l []string) string { l[len(l)-2] = ""; return fmt.Sprint(len(l) - 3) },
		"header changed": func(l []string) string { l[0] = strings.Replace(l[0], acme.id, acme.id[1:]+"0", 1); return "-1" },
	} {
		lines := append([]string(nil), good...)
		index := forge(lines)
		put(t, dir, "forged.jsonl", strings.Join(lines, ""))
		forged := filepath.Join(dir, "forged.jsonl")
		r := offline.types("audit verify "+forged, "--key", key).exits(exitTampered)
		if index != "-1" {
			r.says("entry " + index + ": ")
		}
		var problem struct {
			Reason   string
			Metadata struct{ Index string }
		}
		r = offline.types("audit verify -o json "+forged, "--key", key).exits(exitTampered)
		if err := json.Unmarshal([]byte(r.err), &problem); err != nil || problem.Reason != "TAMPERED" || problem.Metadata.Index != index {
			t.Errorf("%s: %v, %+v\n%s", name, err, problem, r.err)
		}
	}
	wrong := admin(t).types("keygen --name fulcrum.local/audit").exits(exitOK)
	offline.types("audit verify "+file, "--key", strings.TrimSpace(wrong.out[strings.LastIndex(wrong.out, "PUBLIC_KEY=")+len("PUBLIC_KEY="):])).
		exits(exitTampered).says("not signed by")
	globex := newTenant(t)
	put(t, dir, "other.txt", globex.eventually(exited(exitOK), "audit checkpoint").out)
	offline.types("audit verify "+file, "--key", key, "--checkpoint", filepath.Join(dir, "other.txt")).exits(exitTampered)
	put(t, dir, "empty.txt", "")
	offline.types("audit verify "+file, "--key", key, "--checkpoint", filepath.Join(dir, "empty.txt")).exits(exitUsage)
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	found, _, _ := strings.Cut(rest, to)
	return found
}

func idOf(r result) string { return between(r.out, `"event_id": "`, `"`) }

func (s shell) getenv() func(string) string { return func(key string) string { return s.env[key] } }

// wire carries connections to a server until it is cut; new ones are carried
// at once.
type wire struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, to: to}
	t.Cleanup(func() { ln.Close(); w.cut() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, near, far)
			w.mu.Unlock()
			go func() { _, _ = io.Copy(far, near); far.Close() }()
			go func() { _, _ = io.Copy(near, far); near.Close() }()
		}
	}()
	return w
}

func (w *wire) addr() string { return w.ln.Addr().String() }

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// watched is an output that a test waits on.
type watched struct {
	mu       sync.Mutex
	data     strings.Builder
	messaged strings.Builder
	wake     chan struct{}
}

func newScreen() *watched { return &watched{wake: make(chan struct{}, 1)} }

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.data.Write(p)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

type messageWriter struct{ w *watched }

func (m messageWriter) Write(p []byte) (int, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return m.w.messaged.Write(p)
}

func (w *watched) messages() io.Writer { return messageWriter{w} }

func (w *watched) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.messaged.String()
}

func (w *watched) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Split(strings.TrimSuffix(w.data.String(), "\n"), "\n")
}

// await returns when n lines were written.
func (w *watched) await(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for {
		w.mu.Lock()
		have := strings.Count(w.data.String(), "\n")
		w.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d of %d lines; said: %s", have, n, w.said())
		case <-w.wake:
		}
	}
}
