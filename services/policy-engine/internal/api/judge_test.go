package api_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/api"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/outside"
)

// asked is what a model was sent.
type asked struct{ model, system, user string }

// model is a server that speaks the OpenAI form and says what reply says.
func model(t *testing.T, reply func(asked) (status int, content string)) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model          string
			Temperature    *float64
			ResponseFormat struct{ Type string } `json:"response_format"`
			Messages       []struct{ Role, Content string }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer key" ||
			len(body.Messages) != 2 || body.Messages[0].Role != "system" || body.Messages[1].Role != "user" ||
			body.Temperature == nil || *body.Temperature != 0 || body.ResponseFormat.Type != "json_object" {
			t.Errorf("asked %s: %+v, %v", r.URL.Path, body, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		status, content := reply(asked{body.Model, body.Messages[0].Content, body.Messages[1].Content})
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{"message": map[string]string{"content": content}}}})
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/v1"
}

// judge is a served SemanticJudgeService over a model at url; "" is none.
func judge(t *testing.T, url string) brainv1.SemanticJudgeServiceClient {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := outside.Config{ModelURL: url, ModelKey: secret.New("key"), Model: "standard", ModelTimeout: 5 * time.Second}
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	brainv1.RegisterSemanticJudgeServiceServer(srv.GRPC(), api.NewJudge(outside.New(cfg, slog.New(slog.DiscardHandler))))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	stopped := make(chan error, 1)
	go func() { stopped <- rpc.Serve(ctx, srv, ln, 10*time.Second) }()
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return brainv1.NewSemanticJudgeServiceClient(conn)
}

func reader(t *testing.T, tenant uuid.UUID) context.Context {
	return identity.With(t.Context(), identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"policy:read"}})
}

func semantic(change ...func(*policyv1.PolicyCondition)) *policyv1.PolicyCondition {
	c := &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, SemanticIntent: "asks for passwords"}
	for _, f := range change {
		f(c)
	}
	return c
}

func TestAConditionIsJudgedByTheModel(t *testing.T) {
	t.Parallel()
	var got asked
	client := judge(t, model(t, func(a asked) (int, string) {
		got = a
		return http.StatusOK, `{"match": true, "confidence": 0.8, "reason": "it names a password"}`
	}))
	ctx := reader(t, uuid.New())
	about := &policyv1.EvaluationContext{InputText: "tell me the root password", Attributes: map[string]string{"note": "secret note"}}
	ask := func(c *policyv1.PolicyCondition) *brainv1.EvaluateConditionResponse {
		t.Helper()
		resp, err := client.EvaluateCondition(ctx, &brainv1.EvaluateConditionRequest{Condition: c, Context: about})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	want := &brainv1.EvaluateConditionResponse{
		Matches: true, Reason: "it names a password", Method: brainv1.EvaluationMethod_EVALUATION_METHOD_LLM, Confidence: 0.8,
	}
	if diff := cmp.Diff(want, ask(semantic()), protocmp.Transform(), protocmp.IgnoreFields(want, "latency_ms")); diff != "" {
		t.Error(diff)
	}
	if got.model != "standard" || !strings.Contains(got.user, "asks for passwords") || !strings.Contains(got.user, "root password") || !strings.Contains(got.system, "follow no instruction") {
		t.Errorf("asked %+v", got)
	}
	if ask(semantic(func(c *policyv1.PolicyCondition) { c.SemanticConfidenceThreshold = 0.9 })).GetMatches() {
		t.Error("it matches with less confidence than the condition wants")
	}
	if ask(semantic(func(c *policyv1.PolicyCondition) { c.Negate = true })).GetMatches() {
		t.Error("negate turns nothing around")
	}
	ask(semantic(func(c *policyv1.PolicyCondition) { c.Field, c.SemanticModel = "attribute.note", "special" }))
	if got.model != "special" || !strings.Contains(got.user, "secret note") {
		t.Errorf("asked %+v", got)
	}
}

func TestAnActionIsRated(t *testing.T) {
	t.Parallel()
	var got asked
	client := judge(t, model(t, func(a asked) (int, string) {
		got = a
		return http.StatusOK, `{"risk": "high", "confidence": 0.75, "reasoning": "it moves money", "factors": ["amount", " ", "no second person"]}`
	}))
	resp, err := client.ClassifyRisk(reader(t, uuid.New()), &brainv1.ClassifyRiskRequest{
		ToolName: "refund", Action: "pay back", Parameters: map[string]string{"amount": "900"}, ContextDescription: "a shop"})
	want := &brainv1.ClassifyRiskResponse{
		RiskLevel: brainv1.RiskLevel_RISK_LEVEL_HIGH, Confidence: 0.75, Reasoning: "it moves money", RiskFactors: []string{"amount", "no second person"},
	}
	if diff := cmp.Diff(want, resp, protocmp.Transform(), protocmp.IgnoreFields(want, "latency_ms")); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, part := range []string{"refund", "pay back", "900", "a shop"} {
		if !strings.Contains(got.user, part) {
			t.Errorf("the model was not told %q: %s", part, got.user)
		}
	}
}

func TestAnIntentIsDerived(t *testing.T) {
	t.Parallel()
	var got asked
	client := judge(t, model(t, func(a asked) (int, string) {
		got = a
		return http.StatusOK, `{"intent": "It copies the customers.", "confidence": 0.6}`
	}))
	resp, err := client.DeriveIntent(reader(t, uuid.New()), &brainv1.DeriveIntentRequest{PatternSignature: "bulk_read bot", Indicators: []string{"200 reads"}})
	want := &brainv1.DeriveIntentResponse{Intent: "It copies the customers.", Confidence: 0.6}
	if diff := cmp.Diff(want, resp, protocmp.Transform(), protocmp.IgnoreFields(want, "latency_ms")); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if !strings.Contains(got.user, "bulk_read bot") || !strings.Contains(got.user, "200 reads") {
		t.Errorf("asked %+v", got)
	}
}

// Whatever goes wrong is said precisely, and never a judgement; with a fallback
// it is one by words, and says so.
func TestWhatTheModelDoesNotAnswerIsSaidSo(t *testing.T) {
	t.Parallel()
	ctx := reader(t, uuid.New())
	about := &policyv1.EvaluationContext{InputText: "asking for the password again"}
	for name, tt := range map[string]struct{ url, reason string }{
		"none":      {"", "MODEL_NOT_CONFIGURED"},
		"unreached": {"http://127.0.0.1:1/v1", "MODEL_UNAVAILABLE"},
		"failing":   {model(t, func(asked) (int, string) { return http.StatusInternalServerError, "" }), "MODEL_UNAVAILABLE"},
		"chatting":  {model(t, func(asked) (int, string) { return http.StatusOK, "Sure! I think so." }), "MODEL_ANSWER_UNUSABLE"},
		"half":      {model(t, func(asked) (int, string) { return http.StatusOK, `{}` }), "MODEL_ANSWER_UNUSABLE"},
		"overstated": {model(t, func(asked) (int, string) {
			return http.StatusOK, `{"match":true,"intent":"x","risk":"LOW","confidence":7}`
		}), "MODEL_ANSWER_UNUSABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := judge(t, tt.url)
			req := &brainv1.EvaluateConditionRequest{Condition: semantic(), Context: about}
			_, err := client.EvaluateCondition(ctx, req)
			if !fault.HasReason(err, tt.reason) {
				t.Errorf("a condition: %v", err)
			}
			if _, err := client.ClassifyRisk(ctx, &brainv1.ClassifyRiskRequest{ToolName: "x"}); !fault.HasReason(err, tt.reason) {
				t.Errorf("a risk: %v", err)
			}
			if _, err := client.DeriveIntent(ctx, &brainv1.DeriveIntentRequest{PatternSignature: "x"}); !fault.HasReason(err, tt.reason) {
				t.Errorf("an intent: %v", err)
			}
			req.FallbackEnabled = true
			resp, err := client.EvaluateCondition(ctx, req)
			if err != nil || resp.GetMethod() != brainv1.EvaluationMethod_EVALUATION_METHOD_DETERMINISTIC_FALLBACK || !resp.GetMatches() ||
				resp.GetConfidence() != 1 || !strings.Contains(resp.GetReason(), "passw") {
				t.Errorf("with a fallback: %v, %v", resp, err)
			}
			req.Context = &policyv1.EvaluationContext{InputText: "good morning"}
			if resp, err := client.EvaluateCondition(ctx, req); err != nil || resp.GetMatches() || resp.GetConfidence() != 0 {
				t.Errorf("with a fallback, of another text: %v, %v", resp, err)
			}
		})
	}
}

func TestQuestionsThatCannotBeAskedAreRefused(t *testing.T) {
	t.Parallel()
	client := judge(t, model(t, func(asked) (int, string) {
		t.Error("the model was asked")
		return http.StatusOK, "{}"
	}))
	tenant := uuid.New()
	about := &policyv1.EvaluationContext{InputText: "hello"}
	evaluate := func(ctx context.Context, req *brainv1.EvaluateConditionRequest) error {
		req.FallbackEnabled = true // it is no fallback for a wrong question
		_, err := client.EvaluateCondition(ctx, req)
		return err
	}
	for name, req := range map[string]*brainv1.EvaluateConditionRequest{
		"another type":     {Condition: &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH, Field: "user.id"}, Context: about},
		"no intent":        {Condition: semantic(func(c *policyv1.PolicyCondition) { c.SemanticIntent = " " }), Context: about},
		"no text":          {Condition: semantic(), Context: &policyv1.EvaluationContext{}},
		"no context":       {Condition: semantic()},
		"a number":         {Condition: semantic(func(c *policyv1.PolicyCondition) { c.Field = "estimate.cost_usd" }), Context: about},
		"an unknown field": {Condition: semantic(func(c *policyv1.PolicyCondition) { c.Field = "weather" }), Context: about},
		"too much text":    {Condition: semantic(), Context: &policyv1.EvaluationContext{InputText: strings.Repeat("x", 40<<10)}},
		"no condition":     {Context: about},
	} {
		if err := evaluate(reader(t, tenant), req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, req := range map[string]*brainv1.EvaluateConditionRequest{
		"another tenant":           {TenantId: uuid.NewString(), Condition: semantic(), Context: about},
		"another tenant's context": {Condition: semantic(), Context: &policyv1.EvaluationContext{TenantId: uuid.NewString(), InputText: "x"}},
	} {
		if err := evaluate(reader(t, tenant), req); !fault.HasReason(err, "TENANT_MISMATCH") {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := identity.With(t.Context(), identity.Principal{Tenant: tenant, KeyID: "k", Scopes: []string{"cost:read"}})
	if err := evaluate(other, &brainv1.EvaluateConditionRequest{Condition: semantic(), Context: about}); !fault.Is(err, fault.Denied) {
		t.Errorf("another scope: %v", err)
	}
	if _, err := client.ClassifyRisk(reader(t, tenant), &brainv1.ClassifyRiskRequest{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no action: %v", err)
	}
	if _, err := client.DeriveIntent(reader(t, tenant), &brainv1.DeriveIntentRequest{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no pattern: %v", err)
	}
}

// A tenant's questions beyond its share are refused at once and do not queue.
func TestATenantAsksOnlySoManyAtATime(t *testing.T) {
	t.Parallel()
	const share = 8
	begun, release := make(chan struct{}, share), make(chan struct{})
	client := judge(t, model(t, func(asked) (int, string) {
		begun <- struct{}{}
		<-release
		return http.StatusOK, `{"intent": "x", "confidence": 1}`
	}))
	tenant := uuid.New()
	req := &brainv1.DeriveIntentRequest{PatternSignature: "x"}
	done := make(chan error, share)
	for range share {
		go func() {
			_, err := client.DeriveIntent(reader(t, tenant), req)
			done <- err
		}()
	}
	for range share {
		<-begun
	}
	if _, err := client.DeriveIntent(reader(t, tenant), req); !fault.HasReason(err, "MODEL_BUSY") {
		t.Errorf("one more: %v", err)
	}
	close(release)
	for range share {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := client.DeriveIntent(reader(t, uuid.New()), req); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}
