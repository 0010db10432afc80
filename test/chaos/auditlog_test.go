package chaos

import (
	"context"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// head is a signed state of a tenant's audit log that somebody outside kept.
type head struct {
	size int64
	root tlog.Hash
}

// headOf returns the newest signed head that covers everything recorded so far.
func headOf(t *testing.T, c *running.Client) head {
	t.Helper()
	var h head
	running.Eventually(t, soon, func(ctx context.Context) error {
		resp, err := c.Audit.GetLogCheckpoint(ctx, &auditv1.GetLogCheckpointRequest{})
		if err != nil {
			return err
		}
		h.size = resp.GetTreeSize()
		copy(h.root[:], resp.GetRootHash())
		return verify(ctx, c, resp.GetCheckpoint())
	})
	return h
}

// verify checks a checkpoint's signature with the log's public key.
func verify(ctx context.Context, c *running.Client, checkpoint string) error {
	key, err := c.Audit.GetVerificationKey(ctx, &auditv1.GetVerificationKeyRequest{})
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(key.GetVerifierKey())
	if err != nil {
		return err
	}
	_, err = note.Open([]byte(checkpoint), note.VerifierList(verifier))
	return err
}

// extends proves that the log as it is now begins with the log as it was.
func (h head) extends(t *testing.T, c *running.Client) head {
	t.Helper()
	now := headOf(t, c)
	if now.size < h.size {
		t.Fatalf("the audit log shrank from %d to %d entries", h.size, now.size)
	}
	resp, err := c.Audit.GetConsistencyProof(t.Context(), &auditv1.GetConsistencyProofRequest{OldSize: h.size, NewSize: now.size})
	if err != nil {
		t.Fatal(err)
	}
	var proof tlog.TreeProof
	for _, hash := range resp.GetHashes() {
		proof = append(proof, tlog.Hash(hash))
	}
	if err := tlog.CheckTree(proof, now.size, now.root, h.size, h.root); err != nil {
		t.Errorf("the audit log of %d entries does not continue the one of %d: %v", now.size, h.size, err)
	}
	return now
}
