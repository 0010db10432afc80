package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// errUsed rolls a creation back: its key has an answer already.
var errUsed = errors.New("idempotency key is used")

// create is a change that happens once for each idempotency key. do fills
// answer, which is kept in the same transaction; a repeated call gets it from
// there. The second result says that this call is such a repetition.
func (s *Store) create(ctx context.Context, by identity.Principal, tenant uuid.UUID, once change.Once, kinds []kind, answer proto.Message, do func(context.Context, *controldb.Queries) (told, error)) (repeated bool, err error) {
	return s.createAt(ctx, by, tenant, once, kinds, answer, func(ctx context.Context, q *controldb.Queries, _ map[kind]int64) (told, error) { return do(ctx, q) })
}

// createAt is create for what must know the versions that the bundles will have.
func (s *Store) createAt(ctx context.Context, by identity.Principal, tenant uuid.UUID, once change.Once, kinds []kind, answer proto.Message, do doing) (repeated bool, err error) {
	_, err = s.changeAt(ctx, by, tenant, kinds, func(ctx context.Context, q *controldb.Queries, versions map[kind]int64) (told, error) {
		if err := claim(ctx, q, tenant, once); err != nil {
			return told{}, err
		}
		what, err := do(ctx, q, versions)
		if err != nil {
			return told{}, err
		}
		return what, keep(ctx, q, tenant, once, answer)
	})
	if !errors.Is(err, errUsed) {
		return false, err
	}
	found, err := s.Replay(ctx, tenant, once, answer)
	if err == nil && !found { // it came of age between the two looks
		err = fault.New(fault.Down, "this idempotency key is just being forgotten").WithRetry(time.Second)
	}
	return found, err
}

// Replay restores the answer that once was given into answer.
func (s *Store) Replay(ctx context.Context, tenant uuid.UUID, once change.Once, answer proto.Message) (bool, error) {
	if once.Key == "" {
		return false, nil
	}
	var row controldb.KeyAnswerRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		row, err = controldb.New(tx).KeyAnswer(ctx, controldb.KeyAnswerParams{TenantID: tenant, Key: once.Key})
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up idempotency key: %w", err)
	case !bytes.Equal(row.RequestHash, once.Hash):
		return false, change.KeyReused()
	}
	if err := proto.Unmarshal(row.Response, answer); err != nil {
		return false, fmt.Errorf("read kept answer: %w", err)
	}
	return true, nil
}

// claim takes the key for this transaction, or returns errUsed. It waits for
// another that holds it and has not ended.
func claim(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, once change.Once) error {
	if once.Key == "" {
		return nil
	}
	if err := q.ForgetKeys(ctx, tenant); err != nil {
		return fmt.Errorf("forget old idempotency keys: %w", err)
	}
	n, err := q.ClaimKey(ctx, controldb.ClaimKeyParams{TenantID: tenant, Key: once.Key, RequestHash: once.Hash})
	if err != nil {
		return fmt.Errorf("claim idempotency key: %w", err)
	}
	if n == 0 {
		return errUsed
	}
	return nil
}

func keep(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, once change.Once, answer proto.Message) error {
	if once.Key == "" {
		return nil
	}
	raw, err := proto.Marshal(answer)
	if err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	if err := q.AnswerKey(ctx, controldb.AnswerKeyParams{TenantID: tenant, Key: once.Key, Response: raw}); err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	return nil
}
