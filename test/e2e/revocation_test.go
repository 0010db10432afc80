package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// revocationBound is what the architecture promises while NATS is up.
const revocationBound = time.Second

// A revoked key opens nothing any more a second later, however warm the caches
// are, and it never does again.
func TestARevokedKeyIsRefusedWithinASecondUnderLoad(t *testing.T) {
	t.Parallel()
	tenant := stack.Tenant(t, "revoked under load")
	const callers = 8
	for round := range rounds(2, 20) {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			doomed, id := tenant.IssueKey(t, &controlplanev1.IssueApiKeyRequest{Name: fmt.Sprint("doomed ", round), Scopes: []string{"*"}})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var load sync.WaitGroup
			warm, calls := make(chan struct{}, callers), make(chan call, 1<<16)
			for range callers {
				load.Go(func() { keepCalling(ctx, doomed, warm, calls) })
			}
			for range callers {
				<-warm
			}
			if _, err := tenant.Owner.Keys.RevokeApiKey(ctx, &tenantv1.RevokeApiKeyRequest{KeyId: id}); err != nil {
				t.Fatal(err)
			}
			revoked := time.Now()
			awaitRefused(t, doomed)
			watch(t, calls, revoked, 2*revocationBound) // it stays refused
			stop()
			load.Wait()
			close(calls)
			for c := range calls {
				check(t, c, revoked)
			}
		})
	}
}

// call is one call under load.
type call struct {
	begun time.Time
	err   error
}

// keepCalling calls until ctx ends, and says once that its key worked.
func keepCalling(ctx context.Context, c *running.Client, warm chan<- struct{}, calls chan<- call) {
	for first := true; ctx.Err() == nil; {
		begun := time.Now()
		_, err := c.Policies.ListPolicies(ctx, &policyv1.ListPoliciesRequest{PageSize: 1})
		if ctx.Err() != nil {
			return
		}
		if err == nil && first {
			first = false
			warm <- struct{}{}
		}
		calls <- call{begun, err}
	}
}

// watch checks the calls that are made for some time after the revocation.
func watch(t *testing.T, calls <-chan call, revoked time.Time, span time.Duration) {
	t.Helper()
	end := time.NewTimer(span)
	defer end.Stop()
	for {
		select {
		case c := <-calls:
			check(t, c, revoked)
		case <-end.C:
			return
		}
	}
}

// check judges a call against the moment at which its key was revoked.
func check(t *testing.T, c call, revoked time.Time) {
	t.Helper()
	late := c.begun.Sub(revoked)
	switch {
	case c.err == nil && late > running.Bound(revocationBound):
		t.Errorf("a call that began %s after the revocation passed", late)
	case c.err != nil && status.Code(c.err) != codes.Unauthenticated:
		t.Errorf("a call was refused like this: %v", c.err)
	case c.err != nil && late < -time.Second:
		t.Errorf("a call was refused %s before the revocation: %v", -late, c.err)
	}
}

// awaitRefused returns when a client's key is not good any more.
func awaitRefused(t *testing.T, c *running.Client) {
	t.Helper()
	running.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := c.Policies.ListPolicies(ctx, &policyv1.ListPoliciesRequest{PageSize: 1})
		switch {
		case err == nil:
			return errors.New("the key is still good")
		case status.Code(err) != codes.Unauthenticated:
			return err
		}
		return nil
	})
}

// rounds is how often to repeat: the same in every form, but for how often.
func rounds(short, full int) int {
	if running.Full() {
		return full
	}
	return short
}
