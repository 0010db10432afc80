package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/guard"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

func loopback(t *testing.T) guard.Networks {
	t.Helper()
	n, err := guard.ParseNetworks([]string{"127.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAReceiverGetsWhatItCanVerify(t *testing.T) {
	t.Parallel()
	s, body := NewSecret(), []byte(`{"type":"webhook.test"}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		check, err := standard.NewWebhook(s.Reveal())
		if err == nil {
			err = check.Verify(got, r.Header)
		}
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || string(got) != string(body) {
			t.Errorf("%s %s %s: %v", r.Method, r.Header, got, err)
		}
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/elsewhere":
			t.Error("a redirect was followed")
		case "/busy":
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/flood":
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer srv.Close()
	send := NewSender(loopback(t), time.Minute)
	for path, want := range map[string]Result{
		"/": {Status: 204}, "/flood": {Status: 200}, "/busy": {Status: 429, Error: "it answered with status 429", RetryAfter: 77 * time.Second},
		"/moved": {Error: "it answered with a redirect, and redirects are not followed"},
	} {
		got := send.Send(t.Context(), srv.URL+path, "msg_1", body, []secret.Secret{s})
		if got.Took = 0; got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

// An endpoint that says nothing costs an attempt its time, and no more.
func TestAnEndpointThatSaysNothingIsLeft(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	got := NewSender(loopback(t), 50*time.Millisecond).Send(t.Context(), srv.URL, "msg_1", nil, []secret.Secret{NewSecret()})
	if got.Error != "it did not answer in time" || got.Status != 0 {
		t.Errorf("%+v", got)
	}
}

// No address and no name leads inside, by http or https, unless the operator
// says so; and what is refused does not say what there is.
func TestNoEndpointIsInside(t *testing.T) {
	t.Parallel()
	reached := 0
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	port := func(s *httptest.Server) string { return s.URL[strings.LastIndexByte(s.URL, ':'):] }
	send := NewSender(nil, time.Minute)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	send.secure.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "example.com"}
	for _, to := range []string{
		secure.URL, "https://localhost" + port(secure), "https://[::ffff:127.0.0.1]" + port(secure), plain.URL, "http://localhost" + port(plain),
		"https://169.254.169.254/latest", "https://10.0.0.1/", "https://[fd00:ec2::254]/", "https://0.0.0.0" + port(secure),
	} {
		got := send.Send(t.Context(), to, "msg_1", nil, []secret.Secret{NewSecret()})
		if got.Delivered() || got.Status != 0 || !strings.Contains(got.Error, "not a public one") && !strings.Contains(got.Error, "no connection") {
			t.Errorf("%s: %+v", to, got)
		}
	}
	if reached > 0 {
		t.Errorf("reached %d times", reached)
	}
	allowing := NewSender(loopback(t), time.Minute)
	allowing.secure.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for _, to := range []string{plain.URL, secure.URL} {
		if got := allowing.Send(t.Context(), to, "msg_1", nil, []secret.Secret{NewSecret()}); !got.Delivered() {
			t.Errorf("%s, which the operator allows: %+v", to, got)
		}
	}
}

func TestURLsAreCheckedBeforeTheyAreKept(t *testing.T) {
	t.Parallel()
	strict, allowing := NewSender(nil, time.Minute), NewSender(loopback(t), time.Minute)
	for to, want := range map[string]bool{
		"https://example.com/hook?key=1": true, "https://93.184.215.14/": true, "http://example.com": false, "https://u:p@example.com": false,
		"https://example.com/#x": false, "https://": false, "ftp://example.com": false, "example.com": false, "https:example.com": false,
		"https://127.0.0.1/": false, "https://[::1]/": false, "https://192.168.0.1/": false, "https://169.254.169.254/": false, "": false, "%": false,
	} {
		err := strict.Check(to)
		if (err == nil) != want || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", to, err)
		}
	}
	if err := allowing.Check("http://127.0.0.1:80/"); err != nil {
		t.Errorf("where the operator allows it: %v", err)
	}
}
