package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
)

// The plain form: a transaction for each hold, in one round trip, the limit in a
// CHECK. It keeps what ours keeps, three counters and a row that says where it
// holds, and nothing of what makes a ledger of them.
var plainTables = []string{
	`create table plain_budgets (id int primary key, lim bigint not null, held bigint not null default 0, check (held <= lim)) with (fillfactor = 50)`,
	`insert into plain_budgets select i, 1000000000000 from generate_series(0, 1110) i`, // 0: tenant, 1-110: teams, the rest: agents
	`create table plain_holds (id uuid primary key, budgets int[] not null, n bigint not null, at timestamptz not null default now())`,
	`create table empty_commits (at timestamptz not null default now())`,
}

// Budgets are updated from the agent's up, so that the row everybody wants is
// locked last and for the shortest time.
const (
	plainUpdate = `update plain_budgets set held = held + 1 where id = $1`
	plainHold   = `insert into plain_holds (id, budgets, n) values ($1, $2, 1)`
)

func makePlain(ctx context.Context, s *server) error {
	for _, sql := range plainTables {
		if _, err := s.plain.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the plain tables: %w", err)
		}
	}
	return nil
}

// plain holds on one of so many paths.
func (s *server) plainHold(paths int) func(context.Context) error {
	return func(ctx context.Context) error {
		agent := 111 + rand.IntN(paths)
		levels := []int32{int32(agent), int32(1 + agent%110), 0}
		if paths == 1 {
			levels[1] = 1
		}
		b := &pgx.Batch{}
		b.Queue(plainHold, uuid.Must(uuid.NewV7()), levels)
		for _, id := range levels {
			b.Queue(plainUpdate, id)
		}
		return s.plain.SendBatch(ctx, b).Close()
	}
}

// commit is an empty durable commit: one small row.
func (s *server) commit(ctx context.Context) error {
	_, err := s.plain.Exec(ctx, `insert into empty_commits default values`)
	return err
}

func (s *server) cases(paths int) []bench.Case {
	return []bench.Case{
		{Name: "commit", Do: s.commit},
		{Name: "plain", Do: s.plainHold(paths)},
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
