package bench

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/bench/wire"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// openCalls asks for each hold in a call of its own.
func openCalls(ctx context.Context, to *process, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error) {
	by, err := each(ctx, to.calls, budgetv1.LedgerService_Reserve_FullMethodName, t.tenants)
	if err != nil {
		return nil, 0, err
	}
	holds := bench.NewSchedule(rate, long)
	var failed atomic.Int64
	took, err := holds.Run(ctx, func(i int) {
		op := t.any()
		request, err := proto.Marshal(asked(op))
		if err != nil {
			holds.Fail(err)
			return
		}
		to.calls.Call(by[op.Tenant], request, func(reply []byte, err error) {
			switch {
			case errors.Is(err, wire.ErrEnded): // what fails at once would look fast
				holds.Fail(err)
			case err != nil || !replyHolds(reply):
				failed.Add(1)
			}
			holds.Done(i)
		})
	})
	return took, failed.Load(), err
}

// replyHolds reports whether a reply is a hold.
func replyHolds(reply []byte) bool {
	var resp budgetv1.ReserveResponse
	return proto.Unmarshal(reply, &resp) == nil && onPath(&resp)
}

// onPath reports whether an answer is a hold in the three budgets of a path.
func onPath(resp *budgetv1.ReserveResponse) bool { return len(resp.GetHold().GetBudgets()) == 3 }

// each is a method as called for each of the tenants.
func each(ctx context.Context, c *wire.Client, name string, tenants []uuid.UUID) (map[uuid.UUID]*wire.Method, error) {
	by := make(map[uuid.UUID]*wire.Method, len(tenants))
	for _, tenant := range tenants {
		m, err := as(ctx, c, name, tenant)
		if err != nil {
			return nil, err
		}
		by[tenant] = m
	}
	return by, nil
}

// as is a method called for a tenant.
func as(ctx context.Context, c *wire.Client, name string, tenant uuid.UUID) (*wire.Method, error) {
	md, err := rpc.Metadata(identity.With(ctx, identity.System(tenant)), secret.Secret{})
	if err != nil {
		return nil, err
	}
	var pairs []string
	for key, values := range md {
		for _, v := range values {
			if strings.HasSuffix(key, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			pairs = append(pairs, key, v)
		}
	}
	return c.NewMethod(name, pairs...), nil
}

// openEmpty makes calls that do nothing.
func openEmpty(ctx context.Context, to *process, rate int, long time.Duration) ([]time.Duration, error) {
	check, calls := to.calls.NewMethod(healthpb.Health_Check_FullMethodName), bench.NewSchedule(rate, long)
	return calls.Run(ctx, func(i int) {
		to.calls.Call(check, nil, func(_ []byte, err error) {
			if err != nil {
				calls.Fail(fmt.Errorf("an empty call: %w", err))
			}
			calls.Done(i)
		})
	})
}
