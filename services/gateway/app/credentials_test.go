package app_test

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

func openBus(t *testing.T) *bus.Bus {
	t.Helper()
	settings := config.NATS(config.From(config.Map(map[string]string{"NATS_URL": os.Getenv("TEST_NATS_URL")})))
	b, err := bus.Connect(settings, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// A revoked key is refused within a second by every instance.
func TestARevocationReachesEveryInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	b := openBus(t)
	key := w.key(w.tenant, "*")
	for _, g := range gateways {
		ready(t, g)
		if _, err := governanceOf(g).Authorize(as(t, key), toolCall("")); err != nil {
			t.Fatal(err)
		}
	}
	keyID := key[len("flcrm_sk_") : len("flcrm_sk_")+12]
	dbtest.Admin(t, w.db, `update fulcrum.api_keys set revoked_at = now(), revoked_by = 'test' where key_id = '`+keyID+`'`)
	err := b.Publish(t.Context(), &busv1.Event{
		EventId: uuid.NewString(), TenantId: w.tenant.String(), Stream: busv1.Stream_STREAM_CONFIG, Type: "keys", Writer: "test",
		Payload: &structpb.Struct{Fields: map[string]*structpb.Value{"key_id": structpb.NewStringValue(keyID)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for i, g := range gateways {
		eventually(t, "the key is refused", func() bool {
			_, err := governanceOf(g).Authorize(as(t, key), toolCall(""))
			return fault.Is(err, fault.Unauthenticated) && fault.HasReason(err, "API_KEY_INVALID")
		})
		if took := time.Since(begin); took > 5*time.Second { // the promise is one second; the machine is shared
			t.Errorf("gateway %d took %v", i, took)
		}
	}
}

// The administrator administers, and sees no tenant's data.
func TestTheAdministratorHasNoTenantsData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	admin := controlplanev1.NewAdminServiceClient(g.conn)
	resp, err := admin.ListTenants(as(t, adminKey), &controlplanev1.ListTenantsRequest{})
	if err != nil || resp.GetTenants()[0].GetName() != "admin" {
		t.Errorf("administrator: %v, %v", resp, err)
	}
	if _, err := admin.ListTenants(as(t, w.key(w.tenant, "*")), &controlplanev1.ListTenantsRequest{}); !fault.HasReason(err, "ADMIN_REQUIRED") {
		t.Errorf("a tenant's key: %v", err)
	}
	if _, err := envelopev1.NewEnvelopeServiceClient(g.conn).ListEnvelopes(as(t, adminKey), &envelopev1.ListEnvelopesRequest{}); !fault.HasReason(err, "ADMIN_HAS_NO_TENANT") {
		t.Errorf("a tenant's data: %v", err)
	}
	// A tenant's administrator may change the settings of his own tenant only.
	own := w.key(w.tenant, "tenant:admin")
	_, err = admin.UpdateTenantSettings(as(t, own), &controlplanev1.UpdateTenantSettingsRequest{TenantId: uuid.NewString()})
	if !fault.HasReason(err, "TENANT_MISMATCH") {
		t.Errorf("another tenant's settings: %v", err)
	}
}

// What was recorded reaches JetStream through the gateway's own relay.
func TestWhatIsRecordedIsPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	if _, err := governanceOf(g).Authorize(as(t, w.key(w.tenant, "*")), toolCall("")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event is sent", func() bool {
		return dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'decision_made' and sent_at is not null`) == 1
	})
}

// A flood from one key is turned away, with the time to come back.
func TestAFloodIsTurnedAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway("GATEWAY_KEY_RATE", "20")
	ready(t, g)
	key, other := w.key(w.tenant, "*"), w.key(w.tenant, "*")
	client := policyv1.NewPolicyServiceClient(g.conn)
	refused := 0
	for range 100 {
		_, err := client.ListPolicies(as(t, key), &policyv1.ListPoliciesRequest{})
		if f, ok := fault.As(err); ok && f.Kind == fault.Exhausted && f.Reason == "RATE_LIMITED" && f.RetryAfter > 0 {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("100 calls at 20 a second were all let through")
	}
	if _, err := client.ListPolicies(as(t, other), &policyv1.ListPoliciesRequest{}); err != nil {
		t.Errorf("another key: %v", err)
	}
	if status, body := callHTTP(t, "GET", g.http+"/v1/policies", "", "x-api-key", key); status != 429 && status != 200 {
		t.Errorf("over HTTP: %d %s", status, body)
	}
}

// Without Redis and NATS decisions go on.
func TestDecisionsGoOnWithoutRedisAndNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway("REDIS_URL", "redis://127.0.0.1:1/0", "NATS_URL", "nats://127.0.0.1:1")
	ready(t, g)
	key := w.key(w.tenant, "*")
	for range 3 {
		if resp, err := governanceOf(g).Authorize(as(t, key), toolCall("")); err != nil || resp.GetDecision() != allowed {
			t.Fatal(resp, err)
		}
	}
	recorded(t, w, 3)
}

// A peer's stream is passed on to its end.
func TestStreamsAreForwarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	stream, err := eventstorev1.NewEventStoreServiceClient(g.conn).StreamEvents(as(t, w.key(w.tenant, "event:read")), &eventstorev1.StreamEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		e, err := stream.Recv()
		if err != nil {
			break
		}
		got = append(got, e.GetEvent().GetEventId())
	}
	if len(got) != 2 || got[0] != "one" || got[1] != "two" {
		t.Errorf("got %v", got)
	}
}

// The tenant learns when a key of his is shown that is not good, and sees when
// a good one was used last.
func TestUseOfKeysIsNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	good, bad := w.key(w.tenant, "*"), forge(w.key(w.tenant, "*"))
	for range 3 {
		if _, err := governanceOf(g).Authorize(as(t, good), toolCall("")); err != nil {
			t.Fatal(err)
		}
		if _, err := governanceOf(g).Authorize(as(t, bad), toolCall("")); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	eventually(t, "use is noted", func() bool {
		return dbtest.Count(t, w.db, `select count(*) from fulcrum.api_keys where last_used_at is not null`) == 1 &&
			dbtest.Count(t, w.db, `select count(*) from fulcrum.outbox where type = 'credential_refused'`) == 1
	})
}
