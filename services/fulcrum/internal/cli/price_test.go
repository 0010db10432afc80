package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// calls authorizes and settles a model call of 1,000,000 input tokens, and
// returns the decision and the answer to the settlement.
func calls(t *testing.T, s shell, model string) (*governancev1.AuthorizeResponse, *governancev1.SettleResponse) {
	t.Helper()
	conn, err := grpc.NewClient(running.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(bearer{key: secret.New(s.env["FULCRUM_API_KEY"])}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := governancev1.NewGovernanceServiceClient(conn)
	made, err := c.Authorize(t.Context(), &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{WorkflowId: "w"}},
		Action:   &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_LLM_CALL, Name: "chat", Model: model},
		Estimate: &governancev1.Estimate{InputTokens: 1_000_000, MaxOutputTokens: 1000}, IdempotencyKey: uuid.NewString(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.GetDecision() != governancev1.Decision_DECISION_ALLOW {
		return made, nil
	}
	done, err := c.Settle(t.Context(), &governancev1.SettleRequest{DecisionId: made.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS,
		Usage: &governancev1.Usage{Model: model, InputTokens: 1_000_000, OutputTokens: 10, CacheWriteTokens: 500_000}, IdempotencyKey: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	return made, done
}

func TestPricesAreImportedShownAndExported(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	acme.types("price list").exits(exitOK).says("no prices of your own: shipped-", "fulcrum price list --all")
	acme.types("price list gpt-4o-mini-tts --all").exits(exitOK).shows("gpt-4o-mini-tts", "shipped-genai-prices-")
	acme.types("price get openai/gpt-4o-2024-08-06").exits(exitOK).shows("gpt-4o", "$2.50", "$10.00", "$1.25", "always")
	acme.types("price get house-model").exits(exitFailure).says("no price is known", "PRICE_UNKNOWN", "fulcrum price import FILE")

	dir := write(t, map[string]string{
		"p.csv": "model,effective_from,above_input_tokens,input,output,cache_write\n" +
			"house-model,2026-01-01,,2.00,8.00,2.50\nhouse-model,2026-01-01,200000,4.00,,\nother-*,2026-01-01,,30,60,\n",
		"bad.csv":  "model,input\nfine,1\nhouse-model,-2\nx,NaN\n",
		"bad.yaml": "prices:\n- model: x\n  inptu: 1\n",
		"p.txt":    "model,input\nx,1\n",
	})
	file := filepath.Join(dir, "p.csv")
	acme.types("price import "+filepath.Join(dir, "bad.csv")).exits(exitUsage).says("bad.csv", `line 4: input "NaN" is not an amount`)
	acme.types("price import " + filepath.Join(dir, "bad.yaml")).exits(exitUsage).says("line 3: inptu is not known here")
	acme.types("price import " + filepath.Join(dir, "p.txt")).exits(exitUsage).says(".csv, .json or .yaml")
	acme.types("price import " + filepath.Join(dir, "none.csv")).exits(exitFailure)
	acme.types("price import --dry-run "+file).exits(exitOK).says("2 would change, 0 are there already; nothing was changed").shows("+", "house-model", "other-*")
	acme.types("price versions").exits(exitOK).says("no prices of your own")
	acme.types("price import --note first "+file).exits(exitOK).says("2 changed with version tenant-1", "next: fulcrum price list")
	acme.types("price import " + file).exits(exitOK).says("nothing changed: 2 prices are there already")
	acme.types("price versions").exits(exitOK).shows("tenant-1", "first")
	acme.eventually(exited(exitOK), "price get house-model")
	acme.types("price list").exits(exitOK).golden(`
MODEL                          INPUT  OUTPUT  CACHED  CACHE WRITE  REASONING  PER CALL  FROM                  VERSION
house-model                    $2.00   $8.00       -        $2.50          -         -  TIME                  tenant-1
  above 200,000 input tokens   $4.00       -       -            -          -         -  -                     -
other-*                       $30.00  $60.00       -            -          -         -  TIME                  tenant-1
`)
	acme.types("price get other-thing").exits(exitOK).says(`your fallback for "other-*" holds`).shows("$30.00")

	// What is exported is what was imported, and can be imported.
	out := filepath.Join(dir, "out.csv")
	acme.types("price export " + out).exits(exitOK)
	acme.types("price import --dry-run " + out).exits(exitOK).says("0 would change, 2 are there already")
	acme.types("price export --form yaml").exits(exitOK).shows("prices:", "above_input_tokens: 200000", "input: 4")
	acme.types("price export --form json").exits(exitOK).shows(`"above_input_tokens": 200000`, `"input": 30`)
	acme.types("price export --version tenant-1").exits(exitOK).shows("house-model,2026-01-01,200000,4,")
	shipped := acme.types("price export --all").exits(exitOK)
	if n := strings.Count(shipped.out, "\n"); n < 800 {
		t.Errorf("%d lines are exported with the shipped list", n)
	}
	acme.types("price import --dry-run " + filepath.Join(write(t, map[string]string{"all.csv": shipped.out}), "all.csv")).exits(exitOK).says("would change")

	acme.types("price end house-model").exits(exitUsage).says("--yes")
	acme.types("price end house-model --yes").exits(exitOK).says("with version tenant-2")
	acme.eventually(exited(exitFailure), "price get house-model").says("PRICE_UNKNOWN")

	other := newTenant(t)
	other.types("price list").exits(exitOK).says("no prices of your own")
	other.types("price export --version tenant-1").exits(exitFailure).says("there is no price list tenant-1")
	reader := newShell(t, issue(t, acme.id, "--scope=cost:read"))
	reader.types("price list").exits(exitOK)
	reader.types("price import " + file).exits(exitFailure).says("cost:write")
}

func TestACallOfAnUnknownModelWaitsForAPrice(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	acme.types("budget create b --cost 100").exits(exitOK)
	acme.eventually(exited(exitOK), "budget status b")
	made, _ := calls(t, acme.shell, "house-model")
	if made.GetDecision() != governancev1.Decision_DECISION_DENY || !strings.Contains(made.GetMessage(), "fulcrum price import") {
		t.Fatalf("without a price: %v", made)
	}
	file := filepath.Join(write(t, map[string]string{"p.csv": "model,input,output,cache_write\n*,2,8,3\n"}), "p.csv")
	acme.types("price import " + file).exits(exitOK)
	acme.eventually(exited(exitOK), "price get house-model")
	made, done := calls(t, acme.shell, "house-model")
	// 1,000,000 tokens at the dearest $3, 1000 at $8.
	if made.GetHold().GetAmounts().GetCostNano() != 3_008_000_000 || made.GetPriceVersion() != "tenant-1" {
		t.Errorf("held: %v", made)
	}
	if done.GetCharged().GetCostNano() != 2_500_080_000 {
		t.Errorf("charged: %v", done)
	}

	// The price was wrong: import the right one from the same day, and re-rate.
	acme.types("price export " + file).exits(exitOK)
	fixed := strings.Replace(read(t, file), ",2,8,", ",1,8,", 1)
	file = filepath.Join(write(t, map[string]string{"q.csv": fixed}), "q.csv")
	acme.types("price import " + file).exits(exitOK).says("1 changed with version tenant-2")
	acme.eventually(func(r result) bool { return strings.Contains(r.out, "tenant-2") }, "price get house-model")
	period := "--from 1d --until 2099-01-01"
	acme.types("price rerate").exits(exitUsage).says("needs --from and --until")
	acme.types("price rerate " + period).exits(exitOK).says("next: the same with --apply").golden(`
MODEL        BUDGET  CHARGES       OLD       NEW  DIFFERENCE
house-model  -             1  $2.50008  $2.00008      -$0.50
house-model  b             1  $2.50008  $2.00008      -$0.50
total        -             1  $2.50008  $2.00008      -$0.50
`)
	acme.types("price rerate --apply " + period).exits(exitUsage).says("--yes")
	acme.types("price rerate --apply --yes " + period).exits(exitOK).says("corrected, as ")
	acme.types("price rerate " + period).exits(exitOK).says("1 charges cost the same")
	acme.types("budget status b").exits(exitOK).shows("$2.00008")
	acme.types("spend --by model").exits(exitOK).shows("$2.00008")
	reader := newShell(t, issue(t, acme.id, "--scope=cost:read"))
	reader.types("price rerate " + period).exits(exitOK)
	reader.types("price rerate --apply --yes " + period).exits(exitFailure).says("cost:write")
	newTenant(t).types("price rerate " + period).exits(exitOK).says("0 charges cost the same")
}
