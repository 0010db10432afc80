package api

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/guard"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/webhook"
)

// house is a served WebhookService beside a journal.
type house struct {
	t       *testing.T
	db      *dbtest.Database
	journal *postgres.Store
	store   *postgres.Webhooks
	send    *webhook.Sender
	client  controlplanev1.WebhookServiceClient
	tenant  uuid.UUID
}

func newKEK() secret.Secret {
	raw := make([]byte, 32)
	rand.Read(raw)
	return secret.New(base64.StdEncoding.EncodeToString(raw))
}

func newHouse(t *testing.T, change ...func(*webhook.Patience)) *house {
	t.Helper()
	d := dbtest.New(t)
	h := &house{t: t, db: d, tenant: dbtest.Tenant(t, d)}
	patience := webhook.DefaultPatience()
	patience.First = 20 * time.Millisecond
	for _, c := range change {
		c(&patience)
	}
	h.journal = postgres.New(d.DB, "event-processor").Telling(webhook.Writer{ReviewURL: "https://console.example/{approval_id}"})
	h.store = h.keeping(newKEK(), secret.Secret{}, patience)
	inside, err := guard.ParseNetworks([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	h.send = webhook.NewSender(inside, 30*time.Second)
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	controlplanev1.RegisterWebhookServiceServer(srv.GRPC(), NewWebhooks(webhook.NewDesk(h.store, h.send), h.store))
	h.client = controlplanev1.NewWebhookServiceClient(dialled(t, srv))
	return h
}

func (h *house) keeping(kek, old secret.Secret, p webhook.Patience) *postgres.Webhooks {
	h.t.Helper()
	v, err := vault.New("KEK", kek, old)
	if err != nil {
		h.t.Fatal(err)
	}
	return postgres.NewWebhooks(h.db.DB, v, p, func() {})
}

// as is a context in which somebody of a tenant calls.
func (h *house) as(tenant uuid.UUID, p ...identity.Principal) context.Context {
	who := identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"tenant:admin"}}
	if len(p) > 0 {
		who = p[0]
		who.Tenant = tenant
	}
	return identity.With(h.t.Context(), who)
}

// dispatch runs a dispatcher on q until the test, or stop, ends it.
func (h *house) dispatch(q webhook.Queue, lease time.Duration) (stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	d := webhook.NewDispatcher(q, h.send, slog.New(slog.DiscardHandler))
	d.Every, d.Lease = 10*time.Millisecond, lease
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				h.t.Error(err)
			}
		})
	}
	h.t.Cleanup(stop)
	return stop
}

func (h *house) create(tenant uuid.UUID, url string, types ...string) (id, plain string) {
	h.t.Helper()
	resp, err := h.client.CreateWebhook(h.as(tenant), &controlplanev1.CreateWebhookRequest{Url: url, EventTypes: types})
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.GetWebhook().GetWebhookId(), resp.GetSecret()
}

// ask records that an approval is asked for.
func (h *house) ask(tenant uuid.UUID) journal.Fact {
	h.t.Helper()
	f := newFact(tenant, "approval_requested", "")
	f.Labels, f.Payload = `{"approval_id": "`+uuid.NewString()+`"}`, `{"action_name": "refund", "arguments": {"card": "4111"}}`
	if _, err := h.journal.Record(h.t.Context(), []journal.Fact{f}); err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *house) only() *controlplanev1.Webhook {
	h.t.Helper()
	resp, err := h.client.ListWebhooks(h.as(h.tenant), &controlplanev1.ListWebhooksRequest{})
	if err != nil || len(resp.GetWebhooks()) != 1 {
		h.t.Fatalf("%v, %v", resp, err)
	}
	return resp.GetWebhooks()[0]
}

func (h *house) deliveries(id string) []*controlplanev1.WebhookDelivery {
	h.t.Helper()
	resp, err := h.client.ListWebhookDeliveries(h.as(h.tenant), &controlplanev1.ListWebhookDeliveriesRequest{WebhookId: id})
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.GetDeliveries()
}

// eventually waits until something holds.
func (h *house) eventually(what string, holds func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			h.t.Fatalf("it never came to be that %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// receiver is somebody's server. Each request goes to answer, and then to got.
type receiver struct {
	*httptest.Server
	got chan request
}

type request struct {
	id, body string
	header   http.Header
}

func receive1(t *testing.T, answer func(n int, r request) int) *receiver {
	t.Helper()
	r := &receiver{got: make(chan request, 100)}
	var mu sync.Mutex // guards n
	n := 0
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		mu.Lock()
		n++
		this := n
		mu.Unlock()
		in := request{id: req.Header.Get("Webhook-Id"), body: string(body), header: req.Header}
		status := answer(this, in)
		w.WriteHeader(status)
		r.got <- in
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) next(t *testing.T) request {
	t.Helper()
	select {
	case in := <-r.got:
		return in
	case <-time.After(time.Minute):
		t.Fatal("nothing was received")
		return request{}
	}
}

func verifies(t *testing.T, in request, plain string) error {
	t.Helper()
	w, err := standard.NewWebhook(plain)
	if err != nil {
		t.Fatal(err)
	}
	return w.Verify([]byte(in.body), in.header)
}

func always200(int, request) int { return http.StatusOK }

// What the journal takes in reaches the receiver, once, signed, with what is
// asked and without arguments; the list says so.
func TestAnApprovalIsToldToTheTenantsServer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv := receive1(t, always200)
	id, plain := h.create(h.tenant, srv.URL)
	f := h.ask(h.tenant)
	if _, err := h.journal.Record(t.Context(), []journal.Fact{f}); err != nil { // comes again
		t.Fatal(err)
	}
	if w := h.only(); w.GetPending() != 1 {
		t.Errorf("before anybody sends: %v", w)
	}
	h.dispatch(h.store, time.Minute)
	in := srv.next(t)
	if err := verifies(t, in, plain); err != nil {
		t.Error(err)
	}
	var body struct {
		Type string
		Data struct {
			Review string `json:"review_url"`
			Action struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(in.body), &body); err != nil || body.Type != "approval.requested" || body.Data.Action.Name != "refund" ||
		!strings.HasPrefix(body.Data.Review, "https://console.example/") || strings.Contains(in.body, "4111") {
		t.Errorf("%s, %v", in.body, err)
	}
	if want := webhook.MessageID(f.ID); in.id != want {
		t.Errorf("id %s, want %s", in.id, want)
	}
	h.eventually("the message is noted as delivered", func() bool {
		d := h.deliveries(id)
		return len(d) == 1 && d[0].GetState() == controlplanev1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_DELIVERED &&
			d[0].GetAttempts() == 1 && d[0].GetStatusCode() == 200 && d[0].GetMessageId() == in.id
	})
	if w := h.only(); w.GetLastSuccessAt() == nil || w.GetPending() != 0 || w.GetFailures() != 0 || len(srv.got) != 0 {
		t.Errorf("afterwards: %v, %d more", w, len(srv.got))
	}
}

// dying is a Queue whose process dies before it can note how an attempt went.
type dying struct {
	webhook.Queue
	once *sync.Once // on a slow machine its lease may end before it does
	dead chan struct{}
}

func (q dying) Finish(context.Context, webhook.Message, webhook.Result) error {
	q.once.Do(func() { close(q.dead) })
	return errors.New("the process is dead")
}

// A process that dies between the receiver's answer and the note of it has sent;
// another sends again, with the same id, so that the receiver can tell.
func TestAMessageSurvivesItsSender(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv := receive1(t, always200)
	id, plain := h.create(h.tenant, srv.URL)
	h.ask(h.tenant)
	q := dying{Queue: h.store, once: new(sync.Once), dead: make(chan struct{})}
	stop := h.dispatch(q, time.Second)
	first := srv.next(t)
	<-q.dead
	stop()
	if d := h.deliveries(id); d[0].GetState() != controlplanev1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_PENDING {
		t.Fatalf("the dead noted something: %v", d)
	}
	h.dispatch(h.store, time.Minute)
	again := srv.next(t)
	if again.id != first.id || again.body != first.body {
		t.Errorf("%s %s, after %s %s", again.id, again.body, first.id, first.body)
	}
	if err := verifies(t, again, plain); err != nil {
		t.Error(err)
	}
	h.eventually("it is delivered by a later attempt", func() bool {
		d := h.deliveries(id)[0]
		return d.GetState() == controlplanev1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_DELIVERED && d.GetAttempts() >= 2
	})
}

// A refusal is tried again, with the same id, and the wait is in the list; when
// the endpoint comes back, it has what it missed, and the failures are forgotten.
func TestAMessageIsTriedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv := receive1(t, func(n int, _ request) int {
		if n < 3 {
			return http.StatusServiceUnavailable
		}
		return http.StatusAccepted
	})
	id, _ := h.create(h.tenant, srv.URL)
	h.ask(h.tenant)
	h.dispatch(h.store, time.Minute)
	ids := map[string]bool{srv.next(t).id: true}
	h.eventually("the failure is in the list", func() bool { w := h.only(); return w.GetFailures() > 0 || w.GetLastSuccessAt() != nil })
	ids[srv.next(t).id] = true
	ids[srv.next(t).id] = true
	if len(ids) != 1 {
		t.Errorf("ids: %v", ids)
	}
	h.eventually("it is delivered and the failures forgotten", func() bool {
		d, w := h.deliveries(id)[0], h.only()
		return d.GetState() == controlplanev1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_DELIVERED && d.GetAttempts() == 3 &&
			w.GetFailures() == 0 && w.GetFailingSince() == nil && w.GetLastError() == ""
	})
}

// An endpoint that fails for too long is disabled with an event; what waits is
// given up, nothing new is kept for it, and it can be enabled again.
func TestADeadEndpointIsDisabledAndSaysSo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *webhook.Patience) { p.DisableFailures, p.DisableAfter = 3, 0 })
	alive := make(chan struct{})
	srv := receive1(t, func(int, request) int {
		select {
		case <-alive:
			return http.StatusOK
		default:
			return http.StatusInternalServerError
		}
	})
	id, _ := h.create(h.tenant, srv.URL)
	h.ask(h.tenant)
	h.dispatch(h.store, time.Minute)
	h.eventually("it is disabled", func() bool {
		return h.only().GetStatus() == controlplanev1.WebhookStatus_WEBHOOK_STATUS_DISABLED
	})
	w := h.only()
	if !strings.Contains(w.GetDisabledReason(), "status 500") || w.GetFailures() != 3 || w.GetPending() != 0 {
		t.Errorf("the list says %v", w)
	}
	if d := h.deliveries(id)[0]; d.GetState() != controlplanev1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_FAILED || d.GetStatusCode() != 500 {
		t.Errorf("what waited: %v", d)
	}
	events := h.outbox("webhook_disabled")
	if len(events) != 1 || !strings.Contains(events[0], id) || strings.Contains(events[0], "whsec_") {
		t.Errorf("events: %v", events)
	}
	h.ask(h.tenant)
	if d := h.deliveries(id); len(d) != 1 {
		t.Errorf("a disabled endpoint has %d messages", len(d))
	}
	close(alive)
	for len(srv.got) > 0 {
		<-srv.got
	}
	on, err := h.client.UpdateWebhook(h.as(h.tenant), &controlplanev1.UpdateWebhookRequest{WebhookId: id, Enabled: proto.Bool(true)})
	if err != nil || on.GetWebhook().GetStatus() != controlplanev1.WebhookStatus_WEBHOOK_STATUS_ACTIVE || on.GetWebhook().GetFailures() != 0 {
		t.Fatalf("%v, %v", on, err)
	}
	f := h.ask(h.tenant)
	if in := srv.next(t); in.id != webhook.MessageID(f.ID) {
		t.Errorf("after it is enabled, %s comes, want %s", in.id, webhook.MessageID(f.ID))
	}
}

// outbox is the events of a type that the tenant's changes left, as text.
func (h *house) outbox(kind string) []string {
	h.t.Helper()
	return h.texts(`select encode(event, 'escape') from fulcrum.outbox where type = $1`, kind)
}

// texts are what the superuser reads, past row level security.
func (h *house) texts(sql string, args ...any) []string {
	h.t.Helper()
	conn, err := pgx.Connect(h.t.Context(), h.db.AdminURL)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(h.t.Context())) }()
	rows, err := conn.Query(h.t.Context(), sql, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// While a rotation lasts, messages satisfy the old secret and the new one; the
// key that wraps them can be changed below, too.
func TestSecretsAreRotatedWithoutAGap(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv := receive1(t, always200)
	id, old := h.create(h.tenant, srv.URL)
	rotate := func(seconds int32) string {
		t.Helper()
		resp, err := h.client.RotateWebhookSecret(h.as(h.tenant), &controlplanev1.RotateWebhookSecretRequest{WebhookId: id, OverlapSeconds: &seconds})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetSecret()
	}
	check := func(in request, want map[string]bool) {
		t.Helper()
		for plain, ok := range want {
			if err := verifies(t, in, plain); (err == nil) != ok {
				t.Errorf("a secret: %v, want %v", err, ok)
			}
		}
	}
	test := func() request {
		t.Helper()
		resp, err := h.client.TestWebhook(h.as(h.tenant), &controlplanev1.TestWebhookRequest{WebhookId: id})
		if err != nil || !resp.GetDelivered() || resp.GetStatusCode() != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		return srv.next(t)
	}
	middle := rotate(3600)
	check(test(), map[string]bool{old: true, middle: true})
	last := rotate(0)
	check(test(), map[string]bool{old: false, middle: false, last: true})

	for _, sealed := range h.texts(`select encode(sealed, 'escape') || encode(wrapped_data_key, 'escape') from fulcrum.webhook_secrets`) {
		if strings.Contains(sealed, "whsec") {
			t.Error("a secret is stored as it is")
		}
	}
}

// The key-encryption key is changed by a start with both: afterwards the new one
// alone opens what is there.
func TestTheKeyThatWrapsSecretsIsChangedAtAStart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	before, after := newKEK(), newKEK()
	p := webhook.DefaultPatience()
	e := webhook.Endpoint{ID: uuid.Must(uuid.NewV7()), URL: "https://example.com/", CreatedBy: "me"}
	plain := webhook.NewSecret()
	who := identity.Principal{Tenant: h.tenant, KeyID: "k"}
	if _, err := h.keeping(before, secret.Secret{}, p).Create(t.Context(), who, e, plain); err != nil {
		t.Fatal(err)
	}
	if _, err := h.keeping(after, secret.Secret{}, p).Secrets(t.Context(), h.tenant, e.ID); !fault.HasReason(err, "KEK_UNKNOWN") {
		t.Errorf("without the old key: %v", err)
	}
	if err := h.keeping(after, before, p).Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := h.keeping(after, secret.Secret{}, p).Secrets(t.Context(), h.tenant, e.ID)
	if err != nil || len(got) != 1 || !got[0].Equal(plain.Reveal()) {
		t.Errorf("with the new key alone: %d, %v", len(got), err)
	}
	none := h.keeping(secret.Secret{}, secret.Secret{}, p)
	if _, err := none.Create(t.Context(), who, webhook.Endpoint{ID: uuid.New(), URL: "https://example.com/2"}, plain); !fault.HasReason(err, "KEK_MISSING") {
		t.Errorf("without any key: %v", err)
	}
}

// Another tenant's endpoint is not there, whatever is asked of it; and no event
// of one tenant is told to another.
func TestAnotherTenantSeesNothingOfIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv, theirs := receive1(t, always200), receive1(t, always200)
	id, _ := h.create(h.tenant, srv.URL)
	other := dbtest.Tenant(t, h.db)
	h.create(other, theirs.URL)
	ctx := h.as(other)
	for name, call := range map[string]func() error{
		"update": func() error {
			_, err := h.client.UpdateWebhook(ctx, &controlplanev1.UpdateWebhookRequest{WebhookId: id, Url: proto.String("https://evil.example/")})
			return err
		},
		"delete": func() error {
			_, err := h.client.DeleteWebhook(ctx, &controlplanev1.DeleteWebhookRequest{WebhookId: id})
			return err
		},
		"test": func() error {
			_, err := h.client.TestWebhook(ctx, &controlplanev1.TestWebhookRequest{WebhookId: id})
			return err
		},
		"rotate": func() error {
			_, err := h.client.RotateWebhookSecret(ctx, &controlplanev1.RotateWebhookSecretRequest{WebhookId: id})
			return err
		},
		"deliveries": func() error {
			_, err := h.client.ListWebhookDeliveries(ctx, &controlplanev1.ListWebhookDeliveriesRequest{WebhookId: id})
			return err
		},
	} {
		if err := call(); !fault.HasReason(err, "WEBHOOK_NOT_FOUND") {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := h.client.ListWebhooks(ctx, &controlplanev1.ListWebhooksRequest{})
	if err != nil || len(list.GetWebhooks()) != 1 || list.GetWebhooks()[0].GetUrl() != theirs.URL {
		t.Errorf("%v, %v", list, err)
	}
	f := h.ask(h.tenant)
	h.dispatch(h.store, time.Minute)
	if in := srv.next(t); in.id != webhook.MessageID(f.ID) {
		t.Errorf("received %s", in.id)
	}
	h.eventually("nothing waits", func() bool { return h.only().GetPending() == 0 })
	if len(theirs.got) > 0 {
		t.Error("another tenant was told")
	}
}

func TestEndpointsAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	create := func(url string, types ...string) error {
		_, err := h.client.CreateWebhook(h.as(h.tenant), &controlplanev1.CreateWebhookRequest{Url: url, EventTypes: types})
		return err
	}
	if err := create("https://example.com/a", "approval.requested"); err != nil {
		t.Fatal(err)
	}
	if err := create("https://example.com/a"); !fault.HasReason(err, "WEBHOOK_EXISTS") {
		t.Errorf("twice: %v", err)
	}
	if err := create("https://example.com/b", "approval.wanted"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "approval.requested") {
		t.Errorf("an unknown type: %v", err)
	}
	if err := create("ftp://example.com"); !fault.Is(err, fault.Invalid) {
		t.Errorf("ftp: %v", err)
	}
	for i := range webhook.MostEndpoints - 1 {
		if err := create(fmt.Sprintf("https://example.com/many/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := create("https://example.com/toomany"); !fault.HasReason(err, "TOO_MANY_WEBHOOKS") {
		t.Errorf("one more than may be: %v", err)
	}
	for name, who := range map[string]identity.Principal{
		"an agent":        {KeyID: "a", AgentID: "bot", Scopes: []string{"*"}},
		"a lesser scope":  {KeyID: "a", Scopes: []string{"approval:write", "event:read"}},
		"an agent's read": {KeyID: "a", AgentID: "bot", Scopes: []string{"tenant:admin"}},
	} {
		if _, err := h.client.ListWebhooks(h.as(h.tenant, who), &controlplanev1.ListWebhooksRequest{}); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an endpoint does not want is not kept for it; deleting it forgets all.
func TestAnEndpointGetsWhatItAskedForUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id, _ := h.create(h.tenant, "https://example.com/", "approval.approved")
	h.ask(h.tenant)
	if d := h.deliveries(id); len(d) != 0 {
		t.Errorf("unwanted: %v", d)
	}
	all := []string{}
	for range 3 {
		f := newFact(h.tenant, "approval_approved", "")
		if _, err := h.journal.Record(t.Context(), []journal.Fact{f}); err != nil {
			t.Fatal(err)
		}
		all = append(all, webhook.MessageID(f.ID))
	}
	var seen []string
	for token := ""; ; {
		resp, err := h.client.ListWebhookDeliveries(h.as(h.tenant), &controlplanev1.ListWebhookDeliveriesRequest{WebhookId: id, PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range resp.GetDeliveries() {
			seen = append(seen, d.GetMessageId())
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	slices.Reverse(seen)
	if !slices.Equal(seen, all) {
		t.Errorf("pages: %v, want %v", seen, all)
	}
	types := &controlplanev1.UpdateWebhookRequest{WebhookId: id, EventTypes: &controlplanev1.WebhookEventTypes{}}
	if _, err := h.client.UpdateWebhook(h.as(h.tenant), types); err != nil {
		t.Fatal(err)
	}
	h.ask(h.tenant)
	if d := h.deliveries(id); len(d) != 4 {
		t.Errorf("now that it wants all: %v", d)
	}
	if _, err := h.client.DeleteWebhook(h.as(h.tenant), &controlplanev1.DeleteWebhookRequest{WebhookId: id}); err != nil {
		t.Fatal(err)
	}
	if left := h.texts(`select event_id::text from fulcrum.webhook_deliveries union all select id::text from fulcrum.webhook_secrets`); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, kind := range []string{"webhook_created", "webhook_updated", "webhook_deleted"} {
		if n := len(h.outbox(kind)); n != 1 {
			t.Errorf("%d events %s", n, kind)
		}
	}
}
