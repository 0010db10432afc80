package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestAFaultIsItsKindThroughAnyWrapping(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("load budget: %w", New(NotFound, "no budget %q", "b1").WithCause(io.ErrUnexpectedEOF))
	if !errors.Is(err, NotFound) || !Is(err, NotFound) {
		t.Error("it is not its kind")
	}
	if errors.Is(err, Conflict) {
		t.Error("it is another kind")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("its cause cannot be found")
	}
	if got, want := err.Error(), `load budget: no budget "b1": unexpected EOF`; got != want {
		t.Errorf("log text %q, want %q", got, want)
	}
	f, ok := As(err)
	if !ok || f.Msg != `no budget "b1"` {
		t.Errorf("As = %+v, %v", f, ok)
	}
}

func TestTheOutermostFaultSpeaks(t *testing.T) {
	t.Parallel()
	inner := New(NotFound, "no row")
	err := New(Denied, "not yours").WithCause(inner)
	if f, _ := As(err); f.Kind != Denied {
		t.Errorf("As = %v", f.Kind)
	}
	if !Is(err, NotFound) {
		t.Error("the inner fault is out of reach of errors.Is")
	}
}

func TestAnythingElseIsNoFault(t *testing.T) {
	t.Parallel()
	var none *Error
	for _, err := range []error{nil, io.EOF, fmt.Errorf("x: %w", io.EOF), none} {
		if f, ok := As(err); ok {
			t.Errorf("As(%v) = %v", err, f)
		}
		if Is(err, NotFound) || HasReason(err, "NOT_FOUND") {
			t.Errorf("%v is a fault", err)
		}
	}
}

func TestWithReturnsACopySoThatSentinelsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	sentinel := New(Down, "later").WithMeta("a", "1")
	changed := sentinel.WithReason("R").WithHint("h").WithRetry(time.Second).WithCause(io.EOF).
		WithMeta("b", "2").WithViolation("f", "bad %d", 1)
	if sentinel.Reason != "" || sentinel.Hint != "" || sentinel.RetryAfter != 0 || sentinel.Cause != nil ||
		len(sentinel.Meta) != 1 || len(sentinel.Violations) != 0 {
		t.Errorf("the sentinel changed: %+v", sentinel)
	}
	if changed.Reason != "R" || changed.Hint != "h" || changed.RetryAfter != time.Second || !errors.Is(changed, io.EOF) ||
		changed.Meta["a"] != "1" || changed.Meta["b"] != "2" || changed.Violations[0] != (Violation{"f", "bad 1"}) {
		t.Errorf("the copy lacks something: %+v", changed)
	}
}

func TestViolationsDoNotShareMemoryBetweenCopies(t *testing.T) {
	t.Parallel()
	base := Fields(Violation{"a", "bad"}).WithViolation("b", "bad")
	one, two := base.WithViolation("one", "bad"), base.WithViolation("two", "bad")
	if one.Violations[2].Field != "one" || two.Violations[2].Field != "two" {
		t.Errorf("%v and %v", one.Violations, two.Violations)
	}
}

func TestEveryFaultHasACode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		e    *Error
		want string
	}{
		{New(NotFound, "x"), "NOT_FOUND"},
		{New(Exhausted, "x"), "RESOURCE_EXHAUSTED"},
		{New(Denied, "x").WithReason("SCOPE_MISSING"), "SCOPE_MISSING"},
	} {
		if got := tt.e.Code(); got != tt.want {
			t.Errorf("Code = %q, want %q", got, tt.want)
		}
	}
	if err := fmt.Errorf("x: %w", New(Denied, "x").WithReason("SCOPE_MISSING")); !HasReason(err, "SCOPE_MISSING") {
		t.Error("HasReason does not see it")
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{New(Invalid, "100% sure").Msg, "100% sure"},
		{New(Invalid, "%d%%", 80).Msg, "80%"},
		{Field("limit.usd", "must be at least %d", 1).Msg, "limit.usd: must be at least 1"},
		{Fields(Violation{"a", "bad"}, Violation{"b", "bad"}).Msg, "a: bad (and 1 more)"},
		{Fields().Msg, "the request is invalid"},
		{Violation{"", "both are set"}.String(), "both are set"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
