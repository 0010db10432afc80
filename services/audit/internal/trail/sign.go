package trail

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
)

// Signer makes log checkpoints in the C2SP tlog-checkpoint format.
type Signer struct {
	signer note.Signer
	public string
}

// NewSigner takes a note signer key ("PRIVATE+KEY+<name>+<hash>+<key>") as
// note.GenerateKey makes it.
func NewSigner(key secret.Secret) (*Signer, error) {
	s, err := note.NewSigner(key.Reveal())
	if err != nil {
		return nil, errors.New("audit key is not a note signer key (PRIVATE+KEY+<name>+<hash>+<key>)")
	}
	public, err := verifierKey(key.Reveal())
	if err != nil {
		return nil, err
	}
	return &Signer{signer: s, public: public}, nil
}

// Origin names one tenant's log: "<key name>/<tenant>".
func (s *Signer) Origin(tenant uuid.UUID) string { return s.signer.Name() + "/" + tenant.String() }

// VerifierKey is the public half, as note.NewVerifier takes it.
func (s *Signer) VerifierKey() string { return s.public }

// Sign returns the signed note for a head.
func (s *Signer) Sign(tenant uuid.UUID, h merkle.Head) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Origin(tenant), h.Size, h.Root)
	signed, err := note.Sign(&note.Note{Text: text}, s.signer)
	return string(signed), err
}

// SignNew signs a checkpoint over what the tenant's log has grown by, if
// anything. Before it does, it reads every new leaf back from the store and
// hashes it again, and proves that the last checkpoint is a prefix: a log that
// lies to itself must not be signed (the fate of CT log Yeti 2022).
func (l *Log) SignNew(ctx context.Context, tenant uuid.UUID) error {
	// In this order: a checkpoint that another signer makes in between is over
	// entries that the head read after it has.
	last, err := l.store.LatestCheckpoint(ctx, tenant)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return fmt.Errorf("read last checkpoint: %w", err)
	}
	head, err := l.store.Head(ctx, tenant)
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	if head.Size == last.Size {
		return nil
	}
	if err := l.examine(ctx, tenant, last.Head, head); err != nil {
		if errors.Is(err, errContradiction) {
			l.told.Refused()
		}
		return fmt.Errorf("log of tenant %s: %w", tenant, err)
	}
	signed, err := l.signer.Sign(tenant, head)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	return l.store.PutCheckpoint(ctx, tenant, Checkpoint{Head: head, Note: signed})
}

// verifierKey derives the public key line from the private one: the name, the
// key hash and the Ed25519 public key of the seed.
func verifierKey(private string) (string, error) {
	parts := strings.SplitN(private, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("audit key is not a note signer key")
	}
	return publicKey(parts[2], parts[4])
}
