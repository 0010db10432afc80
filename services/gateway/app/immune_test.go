package app_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// A report reaches its owner with the caller's identity and key, by every door,
// and only with the right to report.
func TestIncidentsAreReportedThroughTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	ada := w.keyAs(identity.Principal{Tenant: w.tenant, Scopes: []string{"event:write"}, UserID: "ada"})
	client := brainv1.NewImmuneSystemServiceClient(g.conn)
	report := &brainv1.ReportIncidentRequest{Incident: &brainv1.Incident{Description: "it mailed the keys"}}
	want := w.tenant.String() + " user:ada key-1 it mailed the keys"
	resp, err := client.ReportIncident(metadata.AppendToOutgoingContext(as(t, ada), "idempotency-key", "key-1"), report)
	if err != nil || resp.GetIncidentId() != want {
		t.Errorf("%v, %v", resp, err)
	}
	status, body := callHTTP(t, "POST", g.http+"/v1/brain/immune-system/incidents", `{"incident":{"description":"it mailed the keys"}}`, "x-api-key", ada, "Idempotency-Key", "key-1")
	if status != 200 || !strings.Contains(body, want) {
		t.Errorf("%d %s", status, body)
	}
	if _, err := client.ReportIncident(as(t, w.key(w.tenant, "event:read", "policy:approve")), report); !fault.Is(err, fault.Denied) {
		t.Errorf("another scope: %v", err)
	}
	if _, err := client.ReportIncident(as(t, ada), &brainv1.ReportIncidentRequest{Incident: &brainv1.Incident{TenantId: newTenant(w).String()}}); !fault.Is(err, fault.Denied) {
		t.Errorf("another tenant: %v", err)
	}
}

// Equal actions carry an equal mark in their events, others another; what they
// were cannot be read from it.
func TestDecisionsCarryAMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	key := w.key(w.tenant, "*")
	other := toolCall("")
	other.Action.Name = "delete"
	marks := map[string]int{}
	for i := range 3 {
		req := toolCall("")
		if i == 2 {
			req = other
		}
		if _, err := governanceOf(g).Authorize(as(t, key), req); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range eventsOf(t, w, "decision_made") {
		m := e.GetPayload().GetFields()["action_mark"].GetStringValue()
		if len(m) != 8 {
			t.Errorf("mark %q", m)
		}
		marks[m]++
	}
	if len(marks) != 2 {
		t.Errorf("marks: %v", marks)
	}
}

// eventsOf are the events of one type that wait to be published.
func eventsOf(t *testing.T, w *world, kind string) (all []*busv1.Event) {
	t.Helper()
	err := w.db.DB.WithTenant(t.Context(), w.tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := tx.Query(ctx, `select event from fulcrum.outbox where tenant_id = $1 and type = $2`, w.tenant, kind)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var raw []byte
			if err := rows.Scan(&raw); err != nil {
				return err
			}
			e := new(busv1.Event)
			if err := proto.Unmarshal(raw, e); err != nil {
				return err
			}
			all = append(all, e)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
