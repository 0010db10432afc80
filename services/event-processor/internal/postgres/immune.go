package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/immune"
)

// Immune keeps what the detectors count, find and propose. It implements
// immune.Counter.
type Immune struct{ db *db.DB }

// NewImmune returns an Immune in d.
func NewImmune(d *db.DB) *Immune { return &Immune{d} }

// Count implements immune.Counter.
func (s *Immune) Count(ctx context.Context, tenant uuid.UUID, events []*busv1.Event) error {
	ids := make([]uuid.UUID, 0, len(events))
	for _, e := range events {
		id, err := uuid.Parse(e.GetEventId())
		if err != nil {
			return fmt.Errorf("read event id: %w", err)
		}
		ids = append(ids, id)
	}
	return s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		taken, err := outbox.Inbox(ctx, tx, immune.Consumer, tenant, ids)
		if err != nil {
			return err
		}
		var fresh []*busv1.Event
		for i, e := range events {
			if taken[ids[i]] {
				fresh = append(fresh, e)
				delete(taken, ids[i]) // the same event may be twice in a batch
			}
		}
		q := eventsdb.New(tx)
		detectors, err := detectorsOf(ctx, q, tenant)
		if err != nil {
			return err
		}
		windows := immune.Sum(tenant, detectors, fresh)
		if len(windows) == 0 {
			return nil
		}
		return s.add(ctx, tx, q, tenant, windows)
	})
}

// add counts windows up and opens the incidents that are due.
func (s *Immune) add(ctx context.Context, tx db.Tx, q *eventsdb.Queries, tenant uuid.UUID, windows []*immune.Window) error {
	type key struct {
		detector string
		pattern  uuid.UUID
		start    int64
	}
	p := eventsdb.AddToWindowsParams{TenantID: tenant}
	due := make(map[key]*immune.Window, len(windows))
	for _, w := range windows {
		p.Detectors, p.PatternIds = append(p.Detectors, string(w.Detector.Name)), append(p.PatternIds, w.Pattern)
		p.WindowStarts, p.Amounts = append(p.WindowStarts, w.Start), append(p.Amounts, w.Amount)
		due[key{string(w.Detector.Name), w.Pattern, w.Start.UnixNano()}] = w
	}
	rows, err := q.AddToWindows(ctx, p)
	if err != nil {
		return fmt.Errorf("add to windows: %w", err)
	}
	for _, row := range rows {
		w := due[key{row.Detector, row.PatternID, row.WindowStart.UnixNano()}]
		if w == nil || row.Amount < w.Detector.Threshold {
			continue
		}
		// Under the lock of the window's row, so nobody opens it in between.
		open, err := q.IncidentOpen(ctx, eventsdb.IncidentOpenParams{TenantID: tenant, PatternID: row.PatternID, WindowStart: row.WindowStart})
		if err != nil {
			return fmt.Errorf("look for incident: %w", err)
		}
		if !open {
			if err := openIncident(ctx, tx, q, tenant, immune.Found(tenant, w.Detector, w.Last, row.Amount), nil); err != nil {
				return err
			}
		}
	}
	if err := q.ForgetWindows(ctx, tenant); err != nil {
		return fmt.Errorf("forget old windows: %w", err)
	}
	return nil
}

// openIncident writes an incident with its pattern, draft and event.
func openIncident(ctx context.Context, tx db.Tx, q *eventsdb.Queries, tenant uuid.UUID, in *immune.Incident, hash []byte) error {
	details, err := json.Marshal(in.Details)
	if err != nil {
		return fmt.Errorf("write details: %w", err)
	}
	if in.Details == nil {
		details = []byte("{}")
	}
	if err := q.SeePattern(ctx, eventsdb.SeePatternParams{
		TenantID: tenant, ID: in.Pattern, Signature: in.Signature, Indicators: append([]string{}, in.Indicators...), SeenAt: in.OccurredAt,
	}); err != nil {
		return fmt.Errorf("see pattern: %w", err)
	}
	row := eventsdb.OpenIncidentParams{
		TenantID: tenant, ID: in.ID, PatternID: in.Pattern, Detector: string(in.Detector), Severity: int16(in.Severity), Category: int16(in.Category),
		Description: in.Description, Details: details, ReportedBy: in.ReportedBy, BodyHash: hash, OccurredAt: in.OccurredAt,
	}
	if in.Detector != "" {
		row.WindowStart = &in.Window
	}
	if err := q.OpenIncident(ctx, row); err != nil {
		return fmt.Errorf("open incident: %w", err)
	}
	proposed := ""
	if in.Proposal != nil {
		id := uuid.Must(uuid.NewV7())
		in.Proposal.PolicyId, in.Proposal.TenantId = id.String(), tenant.String()
		body, err := proto.Marshal(in.Proposal)
		if err != nil {
			return fmt.Errorf("write draft: %w", err)
		}
		n, err := q.ProposePolicy(ctx, eventsdb.ProposePolicyParams{
			TenantID: tenant, ID: id, PatternID: in.Pattern, IncidentID: in.ID, Policy: body, Reasoning: in.Reasoning,
			AgentID: in.Actor.Agent, ApiKeyID: in.Actor.KeyID, UserID: in.Actor.User,
		})
		if err != nil {
			return fmt.Errorf("propose policy: %w", err)
		}
		if n == 1 {
			proposed = id.String()
		}
	}
	event := immuneEvent(tenant, "incident_opened", in.ReportedBy, map[string]any{
		"incident_id": in.ID.String(), "pattern_id": in.Pattern.String(), "detector": string(in.Detector), "signature": in.Signature,
		"severity": in.Severity.String(), "category": in.Category.String(), "description": in.Description, "generated_policy_id": proposed,
	})
	event.Resource, event.Action = "incident:"+in.ID.String(), "incident.open"
	event.AgentId, event.EnvelopeId = in.Actor.Agent, in.Envelope
	return outbox.Append(ctx, tx, event)
}

func immuneEvent(tenant uuid.UUID, kind, actor string, facts map[string]any) *busv1.Event {
	payload, err := structpb.NewStruct(facts)
	if err != nil {
		payload = nil // text that is no UTF-8: the row has it
	}
	return &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Type: kind, Origin: busv1.Origin_ORIGIN_SYSTEM,
		Writer: "event-processor", OccurredAt: timestamppb.Now(), Actor: actor, Payload: payload,
	}
}

// Report keeps an incident that somebody reports, and returns its id. With the
// id of an earlier report it returns that, if the hash of what was asked for is
// the same, else a Conflict.
func (s *Immune) Report(ctx context.Context, tenant uuid.UUID, in *immune.Incident, hash []byte) (uuid.UUID, error) {
	err := s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		if hash == nil {
			return openIncident(ctx, tx, q, tenant, in, nil)
		}
		// The pattern's row is the lock: two equal calls come one after the other.
		if err := openOnce(ctx, q, tenant, in, hash); err != nil {
			return err
		}
		return openIncident(ctx, tx, q, tenant, in, hash)
	})
	if errors.Is(err, errReported) {
		return in.ID, nil
	}
	return in.ID, err
}

var errReported = errors.New("reported before")

func openOnce(ctx context.Context, q *eventsdb.Queries, tenant uuid.UUID, in *immune.Incident, hash []byte) error {
	if err := q.LockReport(ctx, in.ID.String()); err != nil {
		return fmt.Errorf("lock report: %w", err)
	}
	before, err := q.ReportedHash(ctx, eventsdb.ReportedHashParams{TenantID: tenant, ID: in.ID})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for report: %w", err)
	case bytes.Equal(before, hash):
		return errReported
	}
	return fault.New(fault.Conflict, "this idempotency key was used for another request").WithReason("IDEMPOTENCY_KEY_REUSED").
		WithHint("Send a new key with a new request; repeat a key only with the same body.")
}

// Detectors are all detectors of a tenant.
func (s *Immune) Detectors(ctx context.Context, tenant uuid.UUID) (all []immune.Detector, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		all, err = detectorsOf(ctx, eventsdb.New(tx), tenant)
		return err
	})
	return all, err
}

func detectorsOf(ctx context.Context, q *eventsdb.Queries, tenant uuid.UUID) ([]immune.Detector, error) {
	rows, err := q.Detectors(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read detectors: %w", err)
	}
	set := make([]immune.Detector, 0, len(rows))
	for _, r := range rows {
		set = append(set, immune.Detector{
			Name: immune.Name(r.Name), Enabled: r.Enabled, Threshold: r.Threshold, Window: time.Duration(r.WindowSeconds) * time.Second,
			UpdatedAt: r.UpdatedAt, UpdatedBy: r.UpdatedBy,
		})
	}
	return immune.Detectors(set), nil
}

// SetDetector changes one detector of a tenant by change, and returns it.
func (s *Immune) SetDetector(ctx context.Context, tenant uuid.UUID, by string, name immune.Name, change func(*immune.Detector)) (d immune.Detector, err error) {
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		if err := q.LockDetectors(ctx, tenant.String()); err != nil {
			return fmt.Errorf("lock detectors: %w", err)
		}
		all, err := detectorsOf(ctx, q, tenant)
		if err != nil {
			return err
		}
		before, err := immune.One(all, name)
		if err != nil {
			return err
		}
		after := before
		change(&after)
		if after == before {
			d = before
			return nil
		}
		if err := q.SetDetector(ctx, eventsdb.SetDetectorParams{
			TenantID: tenant, Name: string(name), Enabled: after.Enabled, Threshold: after.Threshold, WindowSeconds: int32(after.Window / time.Second), UpdatedBy: by,
		}); err != nil {
			return fmt.Errorf("set detector: %w", err)
		}
		if all, err = detectorsOf(ctx, q, tenant); err != nil {
			return err
		}
		if d, err = immune.One(all, name); err != nil {
			return err
		}
		facts := func(d immune.Detector) map[string]any {
			return map[string]any{"enabled": d.Enabled, "threshold": fmt.Sprint(d.Threshold), "window_seconds": int64(d.Window / time.Second)}
		}
		event := immuneEvent(tenant, "detector_updated", by, map[string]any{"detector": string(name), "before": facts(before), "after": facts(after)})
		event.Action, event.Resource = "detector.update", "detector:"+string(name)
		return outbox.Append(ctx, tx, event)
	})
	return d, err
}
