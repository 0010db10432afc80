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

// The plain forms: a transaction for each hold, in one round trip, the limit in
// a CHECK. The bare one keeps three counters and one row, which is less than a
// ledger. The recording one keeps what ours keeps: the windows a hold is in,
// the transaction and its double entries.
var plainTables = []string{
	`create table plain_budgets (id int primary key, lim bigint not null, held bigint not null default 0, check (held <= lim)) with (fillfactor = 50)`,
	`insert into plain_budgets select i, 1000000000000 from generate_series(0, 1110) i`, // 0: tenant, 1-110: teams, the rest: agents
	`create table plain_holds (id uuid primary key, agent int not null, n bigint not null, at timestamptz not null default now())`,
	`create table plain_parts (hold uuid, budget int, primary key (hold, budget))`,
	`create table plain_transactions (id uuid primary key, hold uuid not null, kind text not null, at timestamptz not null default now())`,
	`create table plain_entries (budget int, at timestamptz not null default now(), transaction uuid, from_account text not null, to_account text not null, n bigint not null,
		primary key (budget, at, transaction))`,
	`create table empty_commits (at timestamptz not null default now())`,
}

// Budgets are updated from the agent's up, so that the row everybody wants is
// locked last and for the shortest time.
const (
	plainUpdate = `update plain_budgets set held = held + 1 where id = $1`
	plainHold   = `insert into plain_holds (id, agent, n) values ($1, $2, 1)`
	plainParts  = `insert into plain_parts (hold, budget) select $1, unnest($2::int[])`
	plainMoved  = `insert into plain_transactions (id, hold, kind) values ($1, $2, 'hold')`
	plainEntry  = `insert into plain_entries (budget, transaction, from_account, to_account, n) select unnest($2::int[]), $1, 'available', 'held', 1`
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
func (s *server) plainHold(paths int, records bool) func(context.Context) error {
	return func(ctx context.Context) error {
		agent := 111 + rand.IntN(paths)
		levels := []int32{int32(agent), int32(1 + agent%110), 0}
		if paths == 1 {
			levels[1] = 1
		}
		hold := uuid.Must(uuid.NewV7())
		b := &pgx.Batch{}
		if records {
			b.Queue(plainParts, hold, levels)
			tx := uuid.Must(uuid.NewV7())
			b.Queue(plainMoved, tx, hold)
			b.Queue(plainEntry, tx, levels)
		}
		b.Queue(plainHold, hold, agent)
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
		{Name: "bare", Do: s.plainHold(paths, false)},
		{Name: "recording", Do: s.plainHold(paths, true)},
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
