package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNoPrinterShowsASecret(t *testing.T) {
	t.Parallel()
	const value = "hunter2"
	type holder struct {
		Password Secret
		Pointer  *Secret
		inner    Secret
	}
	s := New(value)
	h := holder{s, &s, s}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
	}
	for _, v := range []any{s, h, map[string]Secret{"p": s}, []Secret{s}} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(raw)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", slog.Any("s", s), slog.Any("h", h), slog.Any("p", &s))
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", slog.Any("s", s), slog.Any("h", h), slog.Any("p", &s))

	for _, leak := range []string{value, "68756e74657232", "68756E74657232", "104 117"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q leaked:\n%s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), mask) {
		t.Error("nothing was printed at all")
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	s := New("abc")
	for candidate, want := range map[string]bool{"abc": true, "abd": false, "": false, "abcd": false} {
		if s.Equal(candidate) != want {
			t.Errorf("Equal(%q) = %v", candidate, !want)
		}
	}
	var zero Secret
	if !zero.IsZero() || !zero.Equal("") || s.IsZero() || s.Reveal() != "abc" {
		t.Error("the zero secret is not the empty one")
	}
}

func TestADefaultSecretIsForLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		s       Secret
		addr    string
		refused bool
	}{
		{"a chosen secret is good anywhere", New("x"), ":50051", false},
		{"a default on loopback", Default("x"), "127.0.0.1:50051", false},
		{"a default on every interface", Default("x"), ":50051", true},
		{"none on loopback", Secret{}, "[::1]:50051", false},
		{"none elsewhere", Secret{}, "10.0.0.1:50051", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.s.RefuseDefault("KEY", tt.addr)
			if (err != nil) != tt.refused {
				t.Errorf("RefuseDefault = %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), "KEY") || !strings.Contains(err.Error(), tt.addr)) {
				t.Errorf("the problem does not say what and where: %v", err)
			}
		})
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:50053":               true,
		"127.9.9.9:1":                   true,
		"[::1]:50053":                   true,
		"[::ffff:127.0.0.1]:1":          true,
		"localhost:50053":               true,
		"LocalHost:1":                   true,
		"localhost":                     true,
		"::1":                           true,
		"unix:///run/fulcrum.sock":      true,
		"passthrough:///bufnet":         true,
		"dns:///localhost:50053":        true,
		"dns:///budget:50053":           false,
		":50053":                        false,
		"0.0.0.0:50053":                 false,
		"[::]:50053":                    false,
		"10.1.2.3:50053":                false,
		"budget.railway.internal:50053": false,
		"localhost.evil.example:1":      false,
		"127.0.0.1.evil.example:1":      false,
		"":                              false,
	} {
		if got := Loopback(addr); got != want {
			t.Errorf("Loopback(%q) = %v", addr, got)
		}
	}
}
