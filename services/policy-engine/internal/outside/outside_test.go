package outside

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/guard"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

func semantic(text string) policy.Asked {
	return policy.Asked{Question: policy.Question{Kind: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, Intent: "asks for secrets", Threshold: 0.7}, Text: text}
}

// A model's answer counts when it is whole, confident and in time; anything else
// leaves the question open.
func TestAModelIsAskedAndItsAnswerChecked(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	replies := map[string]string{
		"yes": `{"match":true,"confidence":0.9}`, "no": `{"match":false,"confidence":0.9}`, "unsure": `{"match":true,"confidence":0.5}`,
		"words": `Yes, it does.`, "half": `{"match":true}`, "odd": `{"match":true,"confidence":7}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model    string
			Messages []struct{ Role, Content string }
		}
		raw, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(raw, &body); err != nil || r.Header.Get("Authorization") != "Bearer k" || r.URL.Path != "/v1/chat/completions" || body.Model != "default" {
			t.Errorf("request %s: %s, %v", r.URL.Path, raw, err)
		}
		var asked struct{ Intent, Text string }
		if err := json.Unmarshal([]byte(body.Messages[1].Content), &asked); err != nil || asked.Intent != "asks for secrets" {
			t.Errorf("asked %v, %v", asked, err)
		}
		switch asked.Text {
		case "hangs":
			<-stuck
		case "fails":
			w.WriteHeader(http.StatusInternalServerError)
		case "redirects":
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusTemporaryRedirect)
		case "floods":
			_, _ = w.Write([]byte(strings.Repeat(" ", maxAnswer+10)))
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{"message": map[string]string{"content": replies[asked.Text]}}}})
		}
	}))
	defer srv.Close()
	defer close(stuck)
	a := New(Config{ModelURL: srv.URL + "/v1", ModelKey: secret.New("k"), Model: "default", ModelTimeout: 3 * time.Second}, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		text          string
		answered, yes bool
	}{
		{"yes", true, true}, {"no", true, false}, {"unsure", true, false},
		{"words", false, false}, {"half", false, false}, {"odd", false, false},
		{"hangs", false, false}, {"fails", false, false}, {"redirects", false, false}, {"floods", false, false},
		{strings.Repeat("x", maxText+1), false, false},
	} {
		t.Run(fmt.Sprintf("%.20s", tt.text), func(t *testing.T) {
			q := semantic(tt.text)
			answers := a.Ask(t.Context(), uuid.New(), []policy.Asked{q})
			if got, ok := answers[q.Key()]; ok != tt.answered || got != tt.yes {
				t.Errorf("answers: %v", answers)
			}
		})
	}
}

func external(to string) policy.Asked {
	return policy.Asked{Question: policy.Question{Kind: policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL, Field: "input.text", URL: to}, Text: "hello"}
}

func TestAnExternalCallGoesOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	reached := 0
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/match", http.StatusTemporaryRedirect)
			return
		}
		raw, _ := io.ReadAll(r.Body)
		if string(raw) != `{"field":"input.text","text":"hello"}` || r.Header.Get("Authorization") != "" {
			t.Errorf("body %s", raw)
		}
		_, _ = w.Write([]byte(map[string]string{"/match": `{"match":true}`, "/no": `{"match":false}`, "/odd": `{"ok":1}`}[r.URL.Path]))
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "https://")
	cfg := Config{Hosts: []string{host, "localhost"}, ExternalTimeout: 5 * time.Second}
	trusting := newAsker(cfg, slog.New(slog.DiscardHandler), func(netip.Addr) bool { return true })
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	trusting.external.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}

	for path, want := range map[string]string{"/match": "true", "/no": "false", "/odd": "", "/redirect": ""} {
		q := external(srv.URL + path)
		yes, ok := trusting.Ask(t.Context(), uuid.New(), []policy.Asked{q})[q.Key()]
		if got := map[bool]string{true: fmt.Sprint(yes)}[ok]; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if reached != 4 {
		t.Errorf("reached %d times: the redirect was followed", reached)
	}

	// The same address through the guard, as an address and as a name.
	guarded := New(Config{Hosts: cfg.Hosts, ExternalTimeout: 5 * time.Second}, slog.New(slog.DiscardHandler))
	port := host[strings.LastIndexByte(host, ':'):]
	guarded.cfg.Hosts = append(guarded.cfg.Hosts, "localhost"+port)
	for _, to := range []string{srv.URL + "/match", "https://localhost" + port + "/match"} {
		if _, err := guarded.one(t.Context(), external(to)); err == nil || !strings.Contains(err.Error(), guard.ErrInside.Error()) {
			t.Errorf("%s: %v", to, err)
		}
	}
	for _, to := range []string{"https://elsewhere.example/", "https://localhost:1/"} {
		if _, err := guarded.one(t.Context(), external(to)); err == nil || !strings.Contains(err.Error(), "not on the operator's list") {
			t.Errorf("%s: %v", to, err)
		}
	}
	if reached != 4 {
		t.Error("the guard let a call through")
	}
}
