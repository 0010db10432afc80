package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
)

func TestAKeyIsIssuedListedAndRevoked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	made, err := b.keys.CreateApiKey(b.all(), &tenantv1.CreateApiKeyRequest{
		Name: "ci", Scopes: []string{"policy:read", "cost:read", "policy:read"}, ExpiresInSeconds: 3600,
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := apikey.Parse(made.GetKeySecret())
	if err != nil || key.ID != made.GetKey().GetId() {
		t.Fatalf("issued %v (%v)", made.GetKey(), err)
	}
	if hint := made.GetKey().GetKeyHint(); hint != key.ID[:4]+"..."+key.LastFour() {
		t.Errorf("hint %q", hint)
	}
	if left := time.Until(made.GetKey().GetExpiresAt().AsTime()); left < 50*time.Minute || left > 70*time.Minute {
		t.Errorf("expires in %v", left)
	}
	if !slices.Equal(made.GetKey().GetScopes(), []string{"cost:read", "policy:read"}) {
		t.Errorf("scopes %v", made.GetKey().GetScopes())
	}

	list, err := b.keys.ListApiKeys(b.all(), &tenantv1.ListApiKeysRequest{})
	if err != nil || len(list.GetKeys()) != 1 || list.GetKeys()[0].GetId() != key.ID || list.GetKeys()[0].GetLastUsedAt() != nil {
		t.Errorf("list: %v %v", list, err)
	}
	if revoked, err := b.keys.RevokeApiKey(b.all(), &tenantv1.RevokeApiKeyRequest{KeyId: key.ID}); err != nil || !revoked.GetSuccess() {
		t.Errorf("revoke: %v %v", revoked, err)
	}
	_, err = b.keys.RevokeApiKey(b.all(), &tenantv1.RevokeApiKeyRequest{KeyId: key.ID})
	wantKind(t, "revoke again", err, fault.NotFound, "")
	list, err = b.keys.ListApiKeys(b.all(), &tenantv1.ListApiKeysRequest{})
	if err != nil || len(list.GetKeys()) != 0 {
		t.Errorf("list after revocation: %v %v", list, err)
	}
	var told []string
	for _, e := range b.events(b.tenantA) {
		if e.GetStream() == busv1.Stream_STREAM_CONFIG && e.GetType() == "keys" {
			told = append(told, e.GetPayload().GetFields()["key_id"].GetStringValue())
		}
	}
	if !slices.Equal(told, []string{key.ID}) {
		t.Errorf("the gateways were told of %v", told)
	}
	var revokedAt *time.Time
	b.query(`select revoked_at from fulcrum.find_api_key($1)`, []any{key.ID}, &revokedAt)
	if revokedAt == nil {
		t.Error("the key is still found as good")
	}
}

// The secret is in one answer and nowhere else: no table, no event, no log.
func TestAKeysSecretIsNeverKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := withKey(b.all(), "make-a-key")
	made, err := b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: "ci", Scopes: []string{"policy:read"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: "ci", Scopes: []string{"policy:read"}})
	wantKind(t, "the same request again", err, fault.Exists, "KEY_SECRET_SHOWN")
	if f, _ := fault.As(err); f.Meta["key_id"] != made.GetKey().GetId() {
		t.Errorf("it does not say which key: %v", f.Meta)
	}
	b.keys.RevokeApiKey(b.all(), &tenantv1.RevokeApiKeyRequest{KeyId: made.GetKey().GetId()})

	whole := made.GetKeySecret()
	secret := strings.Split(strings.TrimPrefix(whole, apikey.Prefix), "_")[1:]
	private := strings.Join(secret[:len(secret)-1], "_")
	raw, err := base64.RawURLEncoding.DecodeString(private)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	b.query(`select array_agg(format('%I.%I', schemaname, tablename)) from pg_tables where schemaname in ('fulcrum', 'metrics')`, nil, &tables)
	if len(tables) < 10 {
		t.Fatalf("only %d tables to look at", len(tables))
	}
	for _, table := range tables {
		var n int
		// A row's text shows bytea in hex.
		b.query(fmt.Sprintf(`select count(*) from %s as r where strpos(r::text, $1) > 0 or strpos(r::text, $2) > 0 or strpos(r::text, $3) > 0`, table),
			[]any{private, hex.EncodeToString([]byte(private)), hex.EncodeToString(raw)}, &n)
		if n > 0 {
			t.Errorf("%s holds the secret in %d rows", table, n)
		}
	}
	if strings.Contains(b.log.String(), private) {
		t.Error("the log holds the secret")
	}
	for _, e := range b.events(b.tenantA) {
		text, err := protojson.Marshal(e)
		if err != nil || bytes.Contains(text, []byte(private)) || bytes.Contains(text, []byte(`"hash"`)) {
			t.Errorf("event %s: %s (%v)", e.GetType(), text, err)
		}
	}
}

// Who steals the database has hashes, and a hash opens nothing.
func TestAStoredHashIsNoKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	made := b.createKey(b.all(), "policy:read")
	var hash []byte
	b.query(`select hash from fulcrum.find_api_key($1)`, []any{made.GetKey().GetId()}, &hash)
	good, err := apikey.Parse(made.GetKeySecret())
	if err != nil || !good.Matches(hash, pepper) {
		t.Fatalf("the key itself: %v", err)
	}
	body := apikey.Prefix + good.ID + "_" + base64.RawURLEncoding.EncodeToString(hash)
	forged, err := apikey.Parse(fmt.Sprintf("%s_%08x", body, crc32.ChecksumIEEE([]byte(body))))
	if err != nil {
		t.Fatal(err)
	}
	if forged.Matches(hash, pepper) {
		t.Error("the hash works as a key")
	}
	for _, text := range []string{hex.EncodeToString(hash), string(hash)} {
		if _, err := apikey.Parse(text); err == nil {
			t.Errorf("%q is taken for a key", text)
		}
	}
}

// keyOf is the principal that the gateway makes of a key.
func (b *bench) keyOf(made *tenantv1.ApiKey, p identity.Principal) identity.Principal {
	p.Tenant, p.KeyID, p.Scopes = b.tenantA, made.GetId(), made.GetScopes()
	return p
}

func TestNoKeyGrantsMoreThanItsMaker(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	parent := b.createKey(b.all(), "api_key:write", "policy:read")
	ctx := identity.With(t.Context(), b.keyOf(parent.GetKey(), identity.Principal{}))
	for _, tt := range []struct {
		name   string
		scopes []string
		denied bool
	}{
		{"the same", []string{"api_key:write", "policy:read"}, false},
		{"less", []string{"policy:read"}, false},
		{"more", []string{"policy:read", "policy:write"}, true},
		{"everything", []string{"*"}, true},
	} {
		_, err := b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: tt.name, Scopes: tt.scopes})
		if tt.denied {
			wantKind(t, tt.name, err, fault.Denied, "SCOPE_ESCALATION")
		} else if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// A credential that claims more than its key has: a cache that is late.
	late := b.keyOf(parent.GetKey(), identity.Principal{})
	late.Scopes = []string{"*"}
	_, err := b.keys.CreateApiKey(identity.With(t.Context(), late), &tenantv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"tenant:admin"}})
	wantKind(t, "beyond what is stored", err, fault.Denied, "SCOPE_ESCALATION")

	if _, err := b.keys.RevokeApiKey(b.all(), &tenantv1.RevokeApiKeyRequest{KeyId: parent.GetKey().GetId()}); err != nil {
		t.Fatal(err)
	}
	_, err = b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: "too late", Scopes: []string{"policy:read"}})
	wantKind(t, "by a revoked key", err, fault.Denied, "KEY_ENDED")

	foreign := b.keyOf(parent.GetKey(), identity.Principal{})
	foreign.Tenant = dbtest.Tenant(t, b.Database)
	_, err = b.keys.CreateApiKey(identity.With(t.Context(), foreign), &tenantv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"policy:read"}})
	wantKind(t, "by a key of another tenant", err, fault.Denied, "KEY_UNKNOWN")
}

func TestNoKeyOutlivesItsMaker(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	short, err := b.keys.CreateApiKey(b.all(), &tenantv1.CreateApiKeyRequest{Name: "hour", Scopes: []string{"api_key:write"}, ExpiresInSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	ctx := identity.With(t.Context(), b.keyOf(short.GetKey(), identity.Principal{}))
	for seconds, denied := range map[int64]bool{60: false, 7200: true, 0: true} {
		_, err := b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: "child", Scopes: []string{"api_key:write"}, ExpiresInSeconds: seconds})
		if denied {
			wantKind(t, fmt.Sprint(seconds), err, fault.Denied, "KEY_OUTLIVES_CREATOR")
		} else if err != nil {
			t.Errorf("%d s: %v", seconds, err)
		}
	}
	dbtest.Admin(t, b.Database, `update fulcrum.api_keys set expires_at = now() - interval '1 second' where name = 'hour'`)
	_, err = b.keys.CreateApiKey(ctx, &tenantv1.CreateApiKeyRequest{Name: "child", Scopes: []string{"api_key:write"}, ExpiresInSeconds: 60})
	wantKind(t, "by an expired key", err, fault.Denied, "KEY_ENDED")
}

// A key bound to a team cannot shake the team, and its budgets, off.
func TestAKeyInheritsItsMakersBindings(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	issued, err := b.admin.IssueApiKey(b.asAdmin(), &controlplanev1.IssueApiKeyRequest{
		TenantId: b.tenantA.String(), Name: "bound", Scopes: []string{"api_key:write"}, AgentId: "agent-1", Team: "red", UserId: "bob", Roles: []string{"intern"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := identity.With(t.Context(), b.keyOf(issued.GetKey(), identity.Principal{AgentID: "agent-1", Team: "red", UserID: "bob", Roles: []string{"intern"}}))
	child := b.createKey(ctx, "api_key:write")
	var agent, team, user string
	var roles []string
	b.query(`select agent_id, team, user_id, roles from fulcrum.find_api_key($1)`, []any{child.GetKey().GetId()}, &agent, &team, &user, &roles)
	if agent != "agent-1" || team != "red" || user != "bob" || !slices.Equal(roles, []string{"intern"}) {
		t.Errorf("child acts as %s %s %s %v", agent, team, user, roles)
	}
	// A person's key is not the person.
	plain := b.createKey(b.all(), "policy:read")
	b.query(`select agent_id, team, user_id, roles from fulcrum.find_api_key($1)`, []any{plain.GetKey().GetId()}, &agent, &team, &user, &roles)
	if agent != "" || team != "" || user != "" || len(roles) != 0 {
		t.Errorf("a person's key acts as %s %s %s %v", agent, team, user, roles)
	}
}

func TestTheAdministratorIssuesKeysInAnyTenant(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	req := &controlplanev1.IssueApiKeyRequest{TenantId: b.tenantA.String(), Name: "first", Scopes: []string{"*"}}
	issued, err := b.admin.IssueApiKey(withKey(b.asAdmin(), "first-key"), req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.admin.IssueApiKey(withKey(b.asAdmin(), "first-key"), req)
	wantKind(t, "again", err, fault.Exists, "KEY_SECRET_SHOWN")
	list, err := b.keys.ListApiKeys(b.all(), &tenantv1.ListApiKeysRequest{})
	if err != nil || len(list.GetKeys()) != 1 || list.GetKeys()[0].GetId() != issued.GetKey().GetId() {
		t.Errorf("list: %v %v", list, err)
	}
	req.TenantId = uuid.NewString()
	_, err = b.admin.IssueApiKey(b.asAdmin(), req)
	wantKind(t, "in no tenant", err, fault.NotFound, "TENANT_NOT_FOUND")
	_, err = b.admin.IssueApiKey(withKey(b.asAdmin(), "k"), req)
	wantKind(t, "in no tenant, with a key", err, fault.NotFound, "TENANT_NOT_FOUND")
	// An administrator of the platform reads no tenant's data.
	_, err = b.keys.ListApiKeys(identity.With(t.Context(), identity.Principal{Admin: true, Tenant: b.tenantA}), &tenantv1.ListApiKeysRequest{})
	wantKind(t, "data by admin", err, fault.Denied, "SCOPE_MISSING")
}

func TestADeletedAgentTakesItsKeysAlong(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	a, other := b.createAgent(b.all(), "goes"), b.createAgent(b.all(), "stays")
	ids := map[string]string{}
	for name, agent := range map[string]*agentv1.Agent{"goes": a, "stays": other} {
		issued, err := b.admin.IssueApiKey(b.asAdmin(), &controlplanev1.IssueApiKeyRequest{
			TenantId: b.tenantA.String(), Name: name, Scopes: []string{"envelope:write"}, AgentId: agent.GetId(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = issued.GetKey().GetId()
	}
	for range 2 { // deleting again does nothing
		if _, err := b.agents.DeleteAgent(b.all(), &agentv1.DeleteAgentRequest{Id: a.GetId()}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"goes": true, "stays": false} {
		var revokedAt *time.Time
		b.query(`select revoked_at from fulcrum.find_api_key($1)`, []any{ids[name]}, &revokedAt)
		if (revokedAt != nil) != want {
			t.Errorf("key of the agent that %s: revoked %v", name, revokedAt)
		}
	}
	types := map[string]int{}
	for _, e := range b.events(b.tenantA) {
		types[e.GetStream().String()+" "+e.GetType()]++
	}
	if types["STREAM_EVENTS agent_deleted"] != 1 || types["STREAM_EVENTS api_key_revoked"] != 1 || types["STREAM_CONFIG keys"] != 1 {
		t.Errorf("events: %v", types)
	}
}

func TestUseOfAKeyIsNoted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	made := b.createKey(b.all(), "policy:read")
	touch := `select fulcrum.touch_api_key('` + made.GetKey().GetId() + `')`
	other := dbtest.Tenant(t, b.Database)
	for _, tt := range []struct {
		tenant uuid.UUID
		used   bool
	}{{other, false}, {b.tenantA, true}} {
		dbtest.Admin(t, b.Database, `begin; set local role fulcrum_app; set local fulcrum.current_tenant = '`+tt.tenant.String()+`'; `+touch+`; commit`)
		list, err := b.keys.ListApiKeys(b.all(), &tenantv1.ListApiKeysRequest{})
		if err != nil || (list.GetKeys()[0].GetLastUsedAt() != nil) != tt.used {
			t.Errorf("used as tenant %s: %v %v", tt.tenant, list, err)
		}
	}
}
