package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
)

const soon = 10 * time.Second

// showEvents follows the facts into the event store, the spend and the metrics.
func (w *world) showEvents(ctx context.Context, r *report) {
	acme := w.acme.owner
	r.try("the denial is in the event store", func() (string, error) {
		return eventually(ctx, soon, func() (string, error) {
			resp, err := acme.events.QueryEvents(ctx, &eventstorev1.QueryEventsRequest{EventType: "decision_made", Limit: 1000})
			if err != nil {
				return "", err
			}
			for _, e := range resp.GetEvents() {
				if e.GetEventId() == r.fact("denied_decision_id") {
					return fmt.Sprintf("decision_made, sequence %d of its execution", e.GetSequenceNumber()), nil
				}
			}
			return "", fmt.Errorf("%d events, the denial is not among them", len(resp.GetEvents()))
		})
	})
	r.try("the charge is in the spend", func() (string, error) {
		want, err := strconv.ParseInt(r.fact("charged_nano"), 10, 64)
		if err != nil {
			return "", errors.New("nothing was charged")
		}
		resp, err := acme.costs.GetSpendSummary(ctx, &costv1.GetSpendSummaryRequest{GroupBy: costv1.SpendGroupBy_SPEND_GROUP_BY_MODEL})
		if err != nil {
			return "", err
		}
		got := resp.GetSummary().GetTotalCostUsd()
		if diff := got - float64(want)/1e9; diff > 1e-9 || diff < -1e-9 {
			return "", fmt.Errorf("spend is $%.6f, charged was %s", got, usd(want))
		}
		return fmt.Sprintf("$%.4f by %d model(s), equal to what was charged", got, len(resp.GetGroupedSummaries())), nil
	})
	r.try("the metrics have counted the agent's calls", func() (string, error) {
		return eventually(ctx, soon, func() (string, error) {
			resp, err := acme.agents.GetAgentMetrics(ctx, &agentv1.GetAgentMetricsRequest{AgentId: w.acme.agent, Period: "daily"})
			if err != nil {
				return "", err
			}
			m := resp.GetCurrent()
			if m.GetRequestCount() < crowdCallers || m.GetTotalCost() <= 0 || m.GetViolationCount() == 0 {
				return "", fmt.Errorf("so far %d requests, $%.4f, %d violations", m.GetRequestCount(), m.GetTotalCost(), m.GetViolationCount())
			}
			return fmt.Sprintf("%d requests, %d violations, p99 %.1f ms", m.GetRequestCount(), m.GetViolationCount(), m.GetP99LatencyMs()), nil
		})
	})
}

// showProof verifies with public tools only (the log's key, RFC 6962) that the
// denial is in acme's signed audit log.
func (w *world) showProof(ctx context.Context, r *report) {
	var proof *auditv1.GetInclusionProofResponse
	ok := r.try("the audit log proves the denial", func() (string, error) {
		return eventually(ctx, soon, func() (string, error) {
			var err error
			proof, err = w.acme.owner.audit.GetInclusionProof(ctx, &auditv1.GetInclusionProofRequest{EventId: r.fact("denied_decision_id")})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("leaf %d of %d, %d hashes", proof.GetEntry().GetIndex(), proof.GetTreeSize(), len(proof.GetHashes())), nil
		})
	})
	if !ok {
		return
	}
	r.try("the proof verifies against the signed checkpoint", func() (string, error) {
		key, err := w.acme.owner.audit.GetVerificationKey(ctx, &auditv1.GetVerificationKeyRequest{})
		if err != nil {
			return "", err
		}
		return verifyInclusion(key.GetVerifierKey(), proof)
	})
	r.try("a changed leaf does not verify", func() (string, error) {
		key, err := w.acme.owner.audit.GetVerificationKey(ctx, &auditv1.GetVerificationKeyRequest{})
		if err != nil {
			return "", err
		}
		proof.Entry.Leaf[len(proof.Entry.Leaf)-1] ^= 1
		if _, err := verifyInclusion(key.GetVerifierKey(), proof); err == nil {
			return "", errors.New("a forged leaf was accepted")
		}
		return "refused", nil
	})
}

func verifyInclusion(verifierKey string, p *auditv1.GetInclusionProofResponse) (string, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return "", fmt.Errorf("verification key: %w", err)
	}
	signed, err := note.Open([]byte(p.GetCheckpoint()), note.VerifierList(verifier))
	if err != nil {
		return "", fmt.Errorf("checkpoint signature: %w", err)
	}
	size, root, err := parseCheckpoint(signed.Text)
	if err != nil {
		return "", err
	}
	var hashes tlog.RecordProof
	for _, h := range p.GetHashes() {
		if len(h) != tlog.HashSize {
			return "", errors.New("a hash of the proof has the wrong length")
		}
		hashes = append(hashes, tlog.Hash(h))
	}
	if err := tlog.CheckRecord(hashes, size, root, p.GetEntry().GetIndex(), tlog.RecordHash(p.GetEntry().GetLeaf())); err != nil {
		return "", err
	}
	return fmt.Sprintf("signed by %s, tree of %d", verifier.Name(), size), nil
}
