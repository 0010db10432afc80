package rpc

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAPanicInARequestIsThatRequestsFailure(t *testing.T) {
	t.Parallel()
	var log record
	h := RecoverHTTP(log.logger(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret text") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/x", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret text") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "secret text") || !strings.Contains(log.String(), "GET /v1/x") || !strings.Contains(log.String(), "recover_test.go") {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestAnAbortOnPurposeStaysOne(t *testing.T) {
	t.Parallel()
	h := RecoverHTTP(new(record).logger(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Error("the abort was swallowed")
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
}

func FuzzDecodePrincipal(f *testing.F) {
	f.Add("")
	f.Add("\x0a\x240190b6a8-0000-7000-8000-000000000001")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := decodePrincipal([]string{raw})
		if err != nil {
			return
		}
		again, err := encodePrincipal(p)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodePrincipal([]string{string(again)}); err != nil || back.Tenant != p.Tenant || back.Actor() != p.Actor() || back.Admin != p.Admin {
			t.Fatalf("%+v became %+v, %v", p, back, err)
		}
	})
}
