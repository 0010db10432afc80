package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/guard"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Sender sends. Safe for concurrent use.
type Sender struct {
	timeout time.Duration
	plain   bool // whether http has anywhere to go
	secure  *http.Client
	inside  *http.Client // for http: only to what the operator named
}

// NewSender returns a Sender that reaches public addresses by https, and the
// operator's networks by http as well. Each attempt has timeout.
func NewSender(networks guard.Networks, timeout time.Duration) *Sender {
	return &Sender{
		timeout: timeout, plain: len(networks) > 0,
		secure: guard.Client(func(a netip.Addr) bool { return guard.Public(a) || networks.Contain(a) }),
		inside: guard.Client(networks.Contain),
	}
}

// Check says whether a URL can be an endpoint's: nil, or an Invalid fault. What
// its name leads to is looked at when it is called.
func (s *Sender) Check(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fault.Field("url", "is not a URL such as https://example.com/hooks")
	case u.Scheme != "https" && (u.Scheme != "http" || !s.plain):
		return fault.Field("url", "must be https: whoever is on the way could read what is sent and answer for you")
	case u.User != nil:
		return fault.Field("url", "must have no user or password: the signature says who sends")
	case u.Fragment != "":
		return fault.Field("url", "must have no fragment: it is not sent")
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err == nil && !guard.Public(a) && !s.plain {
		return fault.Field("url", "leads to %s, which is not a public address", a)
	}
	return nil
}

// Send posts body once, signed by every secret.
func (s *Sender) Send(ctx context.Context, to, id string, body []byte, secrets []secret.Secret) Result {
	began := time.Now()
	r := s.post(ctx, to, id, body, secrets, began)
	r.Took = time.Since(began)
	return r
}

func (s *Sender) post(ctx context.Context, to, id string, body []byte, secrets []secret.Secret, now time.Time) Result {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	signature, err := sign(secrets, id, now, body)
	if err != nil {
		return Result{Error: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return Result{Error: "the URL cannot be called"}
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "fulcrum-webhooks/1")
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", signedAt(now))
	h.Set("Webhook-Signature", signature)
	client := s.secure
	if req.URL.Scheme == "http" {
		client = s.inside
	}
	resp, err := client.Do(req)
	if err != nil {
		return Result{Error: explain(err)}
	}
	defer resp.Body.Close()
	// A little is read, so that the connection can be used again; nothing is kept.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 16<<10))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return Result{Status: resp.StatusCode}
	}
	return Result{
		Status: resp.StatusCode, Error: fmt.Sprintf("it answered with status %d", resp.StatusCode),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now),
	}
}

// retryAfter reads seconds or a date; what is neither asks for nothing.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(n, 0), int(longestAsked/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// explain says what went wrong in words of ours. What the network says could
// tell a tenant what is inside.
func explain(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, guard.ErrInside):
		return "the address is not a public one, and the operator allows no others"
	case errors.Is(err, guard.ErrRedirect):
		return "it answered with a redirect, and redirects are not followed"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	case errors.As(err, &dns):
		return "its name was not found"
	}
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return "it did not answer in time"
	}
	return "no connection, or it broke off"
}
