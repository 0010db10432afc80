package webhook

import (
	"strings"
	"testing"
	"time"
)

func failed(status int) Result { return Result{Status: status, Error: "it answered so"} }

// A dead endpoint is asked less and less often, for three days, and disabled
// when it has been dead for a day.
func TestADeadEndpointIsAskedLessAndLessAndThenNotAtAll(t *testing.T) {
	t.Parallel()
	p := DefaultPatience()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	m := Message{CreatedAt: now}
	var h Health
	var waits []time.Duration
	began := now
	for m.Attempt = 1; ; m.Attempt++ {
		out := p.Judge(m, failed(500), h, now)
		if h = out.Health; out.Exhausted {
			break
		}
		if out.Over {
			t.Fatalf("given up after %s and %d attempts, and not disabled", now.Sub(began), m.Attempt)
		}
		waits = append(waits, out.Wait)
		now = now.Add(out.Wait)
	}
	if len(waits) < 7 || waits[0] > 7*time.Second || waits[0] < 3*time.Second {
		t.Errorf("waits: %v", waits)
	}
	for i := 1; i < len(waits); i++ {
		if waits[i] < waits[i-1] && waits[i-1] < p.Longest*3/4 {
			t.Errorf("the wait %d is shorter than the one before: %v", i, waits)
		}
		if waits[i] > p.Longest*5/4 {
			t.Errorf("the wait %d is longer than the longest: %s", i, waits[i])
		}
	}
	if dead := now.Sub(began); dead < 24*time.Hour || dead > 48*time.Hour {
		t.Errorf("disabled after %s", dead)
	}
	if !strings.Contains(h.Disabled, "2026-05-01T12:00:00Z") || h.Failures < p.DisableFailures {
		t.Errorf("why: %+v", h)
	}
}

// One message that a live endpoint refuses is given up, and the endpoint lives.
func TestAMessageIsGivenUpWithoutItsEndpoint(t *testing.T) {
	t.Parallel()
	p := DefaultPatience()
	now := time.Now()
	if out := p.Judge(Message{Attempt: p.Attempts, CreatedAt: now.Add(-time.Hour)}, failed(400), Health{}, now); !out.Over || out.Exhausted {
		t.Errorf("after the last attempt: %+v", out)
	}
	if out := p.Judge(Message{Attempt: 2, CreatedAt: now.Add(-p.GiveUp)}, failed(400), Health{}, now); !out.Over || out.Exhausted {
		t.Errorf("when it is too old: %+v", out)
	}
	if out := p.Judge(Message{Attempt: 2, CreatedAt: now}, failed(400), Health{}, now); out.Over {
		t.Errorf("before: %+v", out)
	}
}

func TestASuccessForgetsFailures(t *testing.T) {
	t.Parallel()
	p := DefaultPatience()
	now := time.Now()
	out := p.Judge(Message{Attempt: 3, CreatedAt: now}, Result{Status: 204}, Health{Failures: 7, FailingSince: now.Add(-time.Hour), LastError: "x"}, now)
	if !out.Over || out.Health != (Health{}) {
		t.Errorf("%+v", out)
	}
}

func TestGoneEndsAnEndpointAtOnce(t *testing.T) {
	t.Parallel()
	out := DefaultPatience().Judge(Message{Attempt: 1, CreatedAt: time.Now()}, failed(410), Health{}, time.Now())
	if !out.Exhausted || !strings.Contains(out.Health.Disabled, "410") {
		t.Errorf("%+v", out)
	}
}

// An endpoint may ask for a longer wait, within a day, and not for a shorter one.
func TestRetryAfterIsHeard(t *testing.T) {
	t.Parallel()
	p := DefaultPatience()
	for asked, want := range map[time.Duration]time.Duration{time.Hour: time.Hour, 1000 * time.Hour: 24 * time.Hour} {
		if got := p.wait(1, asked); got != want {
			t.Errorf("asked for %s: %s", asked, got)
		}
	}
	if got := p.wait(6, time.Second); got < time.Hour {
		t.Errorf("a second: %s", got)
	}
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "Fri, 01 May 2026 12:01:00 GMT": time.Minute, "Fri, 01 May 2026 11:00:00 GMT": 0, "-5": 0, "soon": 0, "": 0,
		"99999999999999": 24 * time.Hour, "99999999999999999999999": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
