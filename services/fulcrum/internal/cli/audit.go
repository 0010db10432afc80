package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/evidence"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) auditCommand() *cobra.Command {
	return o.remote(group("audit", "Prove what was recorded, and verify it without the server", `Prove what was recorded. The log of a tenant is a Merkle tree whose signed
checkpoints say what it was; whoever has its public key can check everything
without trusting the server: export a log, carry it away, and verify it there.`,
		o.auditCheckpoint(), o.auditProve(), o.auditExport(), o.auditVerify()))
}

func (o *operator) auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Show the newest signed checkpoint", Args: arguments(),
		Long: `Show the newest signed checkpoint of the log, as a C2SP signed note. Keep one now
and then in another place: audit verify --checkpoint shows later that the log
still extends it.`,
		Example: "  fulcrum audit checkpoint > checkpoint-$(date +%F).txt",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.audit.GetLogCheckpoint(ctx, &auditv1.GetLogCheckpointRequest{})
			if err != nil {
				return err
			}
			o.say(cmd, "%s entries, signed %s", count(resp.GetTreeSize()), when(resp.GetSignedAt()))
			return o.answer(cmd, resp, func(out io.Writer, _ bool) error {
				text := resp.GetCheckpoint()
				if screen(out) {
					text = terminal.CleanLines(text)
				}
				_, err := io.WriteString(out, text)
				return err
			})
		}),
	}
}

func (o *operator) auditProve() *cobra.Command {
	var key string
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "prove EVENT_ID", Short: "Prove that an event is in the log, and check the proof here", Args: arguments("EVENT_ID"),
		Long: `Ask for the proof that an event, or a decision, is in the log, and check it here: the
checkpoint's signature, the payload's hash, and the path from the leaf to the signed
root. With -o json the proof itself is written, for others to check.`,
		Example: "  fulcrum audit prove 01a1fded-d2d8-7cf5-a33a-12f85d2852f1 --key \"$FULCRUM_AUDIT_PUBLIC_KEY\"",
	}
	cmd.Flags().StringVar(&key, "key", "", "public key of the log, or a file with it (FULCRUM_AUDIT_PUBLIC_KEY; default: as the server says)")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Second, "how long to wait for an event that is not in the log yet")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		trusted, err := o.publicKey(key)
		if err != nil {
			return err
		}
		proof, err := c.proof(ctx, args[0], wait)
		if err != nil {
			return err
		}
		origin := "given"
		if trusted == "" {
			resp, err := c.audit.GetVerificationKey(ctx, &auditv1.GetVerificationKeyRequest{})
			if err != nil {
				return err
			}
			trusted, origin = resp.GetVerifierKey(), "from the server: compare it with the one that its operator published"
		}
		v, err := evidence.Verifier(trusted)
		if err != nil {
			return usagef("--key: %w", err)
		}
		head, err := evidence.CheckProof(v, proof)
		if err != nil {
			return err
		}
		return o.answer(cmd, proof, func(out io.Writer, color bool) error {
			e := proof.GetEntry()
			var f terminal.Facts
			f.Add("event", e.GetEventId())
			f.Add("entry", fmt.Sprintf("%s of %s", count(e.GetIndex()), count(head.Size)))
			f.Add("happened", when(e.GetOccurredAt()))
			f.Add("actor", e.GetActor())
			f.Add("action", e.GetAction())
			f.Add("resource", e.GetResource())
			f.Add("decision", e.GetDecision())
			f.Add("log", head.Origin)
			f.Add("key", v.Name()+" ("+origin+")")
			f.Add("root", head.Root)
			f.Add("proof", fmt.Sprintf("verified: %d hashes from the leaf to the signed root", len(proof.GetHashes())))
			return f.Write(out, color)
		})
	})
	return cmd
}

// proof waits for an event that was decided a moment ago to be in the log.
func (c *client) proof(ctx context.Context, event string, wait time.Duration) (*auditv1.GetInclusionProofResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, max(wait, time.Second))
	defer cancel()
	for {
		proof, err := c.audit.GetInclusionProof(ctx, &auditv1.GetInclusionProofRequest{EventId: event})
		f, ok := fault.As(err)
		if err == nil || !ok || f.Kind != fault.NotFound || f.RetryAfter == 0 || wait == 0 {
			return proof, err
		}
		select {
		case <-ctx.Done():
			return nil, f
		case <-time.After(min(f.RetryAfter, 250*time.Millisecond)):
		}
	}
}

// publicKey is the log's public key as the operator knows it, "" if he does not.
func (o *operator) publicKey(flag string) (string, error) {
	key := flag
	if key == "" {
		key = o.getenv("FULCRUM_AUDIT_PUBLIC_KEY")
	}
	if key == "" || strings.Count(key, "+") >= 2 {
		return strings.TrimSpace(key), nil
	}
	b, err := os.ReadFile(key)
	if err != nil {
		return "", usagef("--key is neither a public key (<name>+<8 hex digits>+<base64>) nor a file with one: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
