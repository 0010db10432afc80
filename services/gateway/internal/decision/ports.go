// Package decision answers whether an action may happen: it asks the policies,
// holds what the action may cost, and records the answer before giving it.
package decision

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Policies judges facts by the policies of the tenant in ctx.
type Policies interface {
	Evaluate(ctx context.Context, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error)
}

// Ledger holds, charges, gives back and knows of money of the tenant in ctx. Every call
// may be repeated with the same ids.
type Ledger interface {
	Reserve(ctx context.Context, req *budgetv1.ReserveRequest) (*budgetv1.ReserveResponse, error)
	Settle(ctx context.Context, req *budgetv1.SettleRequest) (*budgetv1.SettleResponse, error)
	Release(ctx context.Context, req *budgetv1.ReleaseRequest) (*budgetv1.ReleaseResponse, error)
	Renew(ctx context.Context, req *budgetv1.RenewRequest) (*budgetv1.RenewResponse, error)
	TakeSlice(ctx context.Context, req *budgetv1.TakeSliceRequest) (*budgetv1.TakeSliceResponse, error)
	GetStandings(ctx context.Context, req *budgetv1.GetStandingsRequest) (*budgetv1.GetStandingsResponse, error)
	// Budget is one budget's standing: fault.NotFound if the tenant has none such.
	Budget(ctx context.Context, id string) (*costv1.BudgetStatus, error)
}

// Tenants knows what a tenant wants to happen when a dependency is away.
type Tenants interface {
	FailureModes(ctx context.Context, tenant uuid.UUID) (FailureModes, error)
}

// FailureModes are a tenant's choices; the zero value denies.
type FailureModes struct {
	PolicyOpen bool // actions go on unjudged while the policy engine is away
	BudgetOpen bool // actions go on unheld while the budget service is away
}

// Store reads what decisions start from.
type Store interface {
	// Load reads everything about an action in one round trip.
	Load(ctx context.Context, tenant uuid.UUID, q Query) (Loaded, error)
	// LoadDecision reads a recorded decision, and what was answered under the
	// key of q, if anything was.
	LoadDecision(ctx context.Context, tenant, id uuid.UUID, q Query) (Record, *StoredKey, error)
	// ClaimSlice writes down that the ledger may hold a slice for an envelope,
	// which is given back once the envelope has ended, or if it is not recorded.
	ClaimSlice(ctx context.Context, tenant, envelope uuid.UUID) error
	// Counted is what counters have counted by now, what is in flight included.
	// A counter that is not there has counted nothing.
	Counted(ctx context.Context, tenant uuid.UUID, counters []uuid.UUID) (map[uuid.UUID]int64, error)
	// Baselines are the histories of fields by now. One that is not there has no
	// samples.
	Baselines(ctx context.Context, tenant uuid.UUID, ids []uuid.UUID) (map[uuid.UUID]*policyv1.FieldStatistics, error)
	// RenewSlots lets the slots of a decision live for ttl from now, and says how
	// many there are and when the first of them ends.
	RenewSlots(ctx context.Context, tenant, decision uuid.UUID, ttl time.Duration) (slots int, until time.Time, err error)
	// GiveUp makes sure that an attempt which is not recorded never will be,
	// and returns the number of the next one. If it was recorded after all, it
	// returns ErrRecorded.
	GiveUp(ctx context.Context, tenant uuid.UUID, c Claim) (next int32, err error)
}

// Recorder makes an entry durable: all of it or nothing, once per claim. It
// returns ErrEnvelopeEnded, ErrGivenUp, approval.ErrUsed, envelope.ErrTreeFull or
// a *FullError, with nothing recorded, if the world has moved on; any other error
// leaves open whether the entry was recorded.
type Recorder interface {
	Record(ctx context.Context, e *Entry) (Recorded, error)
}

// ErrRecorded says that an attempt to be given up was recorded meanwhile.
var ErrRecorded = fault.New(fault.Conflict, "the attempt was recorded after all").WithReason("RECORDED")

// ErrEnvelopeEnded says that the envelope was ended while an action in it was
// being judged.
var ErrEnvelopeEnded = fault.New(fault.Precondition, "the envelope has ended meanwhile").WithReason("ENVELOPE_NOT_ACTIVE")

// ErrGivenUp says that this attempt was given up, by an earlier call of the
// same key or by one in another process: it can never be recorded.
var ErrGivenUp = fault.New(fault.Down, "another call with the same idempotency key is in the way").
	WithReason("CONTENDED").WithRetry(100 * time.Millisecond)

// ErrKeyReused says that an idempotency key came with another body before.
var ErrKeyReused = fault.New(fault.Conflict, "this idempotency key was used for another request").
	WithReason("IDEMPOTENCY_KEY_REUSED").
	WithHint("Use a new key for a new request, and the same key only to repeat the very same one.").
	WithViolation("idempotency_key", "was used for another request within the last 24 hours")

// Query names what Load reads. The zero UUID and "" mean: nothing of that kind.
type Query struct {
	Scope    string
	Key      string
	Envelope uuid.UUID
	Approval uuid.UUID
}

// Loaded is what a decision starts from.
type Loaded struct {
	Now      time.Time // the database's clock
	Key      *StoredKey
	Envelope *envelope.Envelope
	Approval *approval.Granted
}

// StoredKey is an idempotency key that lives.
type StoredKey struct {
	Hash     []byte
	Answered bool // else: an attempt was given up
	Response []byte
	Attempt  int32
}

// Claim takes an idempotency key for an entry.
type Claim struct {
	Scope    string
	Key      string
	Hash     [sha256.Size]byte
	Attempt  int32
	Response []byte
	// OpenEnvelope must still take actions when the entry is recorded.
	OpenEnvelope uuid.UUID
}

// Entry is what one call leaves behind, in one transaction.
type Entry struct {
	Tenant   uuid.UUID
	Claim    *Claim // nil: nothing to be recognised by
	Decision *Record
	Open     *envelope.Envelope // to be created
	Moves    []envelope.Move    // in order; one that is not allowed any more is left out
	Ask      *approval.Request
	Use      *approval.Use
	Takes    []Take
	Learns   []Learned
	Ends     *Ending
	Events   []*busv1.Event
}

// Recorded is what became of an entry.
type Recorded struct {
	// Stored is the answer that was recorded before under the same claim; nil
	// if the entry itself was recorded.
	Stored []byte
	// Moved are the envelopes that moved, and where to.
	Moved []envelope.Move
}

// Method is the kind of call that a decision answered.
type Method string

// The methods that decide.
const (
	MethodAuthorize Method = "authorize"
	MethodOpen      Method = "create_envelope"
	MethodEvaluate  Method = "evaluate"
	MethodSettle    Method = "settle"
)

// Record is one decision with everything needed to explain it.
type Record struct {
	ID          uuid.UUID
	DecidedAt   time.Time // of a stored record by the database's clock
	Method      Method
	Parent      uuid.UUID // of MethodSettle: the decision whose output was judged
	Envelope    uuid.UUID
	Root        uuid.UUID // of a stored record: the root of its envelope's tree
	KeyID       string
	Team        string
	Reservation uuid.UUID // the ledger's id for the action, held or not
	Approval    uuid.UUID // asked for, or used up
	Facts       *policyenginev1.Facts
	Result      *policyenginev1.EvaluateResponse // nil: no policy was asked
	Response    *governancev1.AuthorizeResponse
}
