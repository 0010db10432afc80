package postgres

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

func TestOneChangeOfATenantAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		a, b := uuid.New(), uuid.New()
		first, err := ts.take(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		running, most := 0, 0
		for range 10 {
			go func() {
				done, err := ts.take(t.Context(), a)
				if err != nil {
					t.Error(err)
					return
				}
				running++ // only with the turn; the race detector watches
				most = max(most, running)
				running--
				done()
			}()
		}
		synctest.Wait()
		other, err := ts.take(t.Context(), b) // another tenant does not wait
		if err != nil {
			t.Fatal(err)
		}
		other()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := ts.take(ctx, a)
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up waiting: %v", err)
		}
		first()
		synctest.Wait()
		if most != 1 || len(ts.queues) != 0 {
			t.Errorf("at most %d at once; %d queues left", most, len(ts.queues))
		}
	})
}

func TestTheQueueHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		a := uuid.New()
		ctx, cancel := context.WithCancel(t.Context())
		done, err := ts.take(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		for range maxWaiting - 1 {
			go func() {
				if _, err := ts.take(ctx, a); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if _, err := ts.take(ctx, a); !errors.Is(err, fault.Down) {
			t.Errorf("one too many: %v", err)
		}
		cancel()
		synctest.Wait()
		done()
		if len(ts.queues) != 0 {
			t.Errorf("%d queues left", len(ts.queues))
		}
	})
}
