package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"sigs.k8s.io/yaml"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/demo"
)

// Not in parallel: it looks over the shoulders of members.
func TestOperatorsSeeTheStack(t *testing.T) {
	ops := spyOnOperationsPorts(t)
	r := observed(t)

	// A dashboard or an alert over a metric that nobody exports is silent for
	// ever, and looks like peace. Every metric and label that deploy/ names must
	// come out of a running stack.
	t.Run("dashboards and alerts name what services export", func(t *testing.T) {
		queries := append(alertQueries(t), dashboardQueries(t)...)
		if len(queries) < 60 {
			t.Fatalf("found %d queries in deploy/, which cannot be all", len(queries))
		}
		ask(t, r)
		deadline := time.Now().Add(90 * time.Second)
		for {
			missing := compare(queries, scrape(t, ops))
			if len(missing) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not exported:\n  %s", strings.Join(missing, "\n  "))
			}
			time.Sleep(time.Second) // Prometheus itself looks every ten
		}
	})

	// Railway asks on PORT: the gateway's HTTP door, and the operations port of
	// every other service.
	t.Run("health is answered where Railway asks", func(t *testing.T) {
		for _, m := range members {
			var file struct {
				Deploy struct{ HealthcheckPath string }
			}
			read(t, filepath.Join("railway", m.name+".json"), &file)
			base := "http://" + ops[m.name]
			if m.name == "gateway" {
				base = r.HTTPURL
			}
			resp, err := http.Get(base + file.Deploy.HealthcheckPath)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s answers %s", m.name, file.Deploy.HealthcheckPath, resp.Status)
			}
		}
	})
}

// spyOnOperationsPorts fills its result, by service, when the stack starts.
func spyOnOperationsPorts(t *testing.T) map[string]string {
	t.Helper()
	ops := make(map[string]string)
	var mu sync.Mutex
	honest := slices.Clone(members)
	t.Cleanup(func() { copy(members, honest) })
	for i, m := range honest {
		key := strings.ToUpper(strings.ReplaceAll(m.name, "-", "_")) + "_OPS_ADDR"
		members[i].run = func(ctx context.Context, env service.Env) error {
			mu.Lock()
			ops[m.name] = env.Getenv(key)
			mu.Unlock()
			return m.run(ctx, env)
		}
	}
	return ops
}

func observed(t *testing.T) *Running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := Start(ctx, Options{
		Getenv: config.Map(map[string]string{"EVENT_PROCESSOR_RECONCILE_EVERY": "1s", "BUDGET_CHECK_EVERY": "1s"}),
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return r
}

// ask makes every kind of call that somebody measures: allowed with a hold and
// settled, denied, and over REST.
func ask(t *testing.T, r *Running) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	key, err := demo.Seed(ctx, demo.Target{GRPCAddr: r.GRPCAddr, HTTPURL: r.HTTPURL, AdminKey: r.AdminKey}, demo.WithBudgets)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(r.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	governance := governancev1.NewGovernanceServiceClient(conn)
	authorized := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key.Reveal())
	for _, tool := range []string{"drop_table", "web_search"} {
		resp, err := governance.Authorize(authorized, &governancev1.AuthorizeRequest{
			Envelope:       &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{WorkflowId: "observed"}},
			Action:         &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: tool},
			Estimate:       &governancev1.Estimate{CostUsd: 0.001},
			IdempotencyKey: uuid.NewString(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetHold() == nil {
			continue
		}
		if _, err := governance.Settle(authorized, &governancev1.SettleRequest{
			DecisionId: resp.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS, IdempotencyKey: uuid.NewString(),
		}); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.HTTPURL+"/v1/budgets", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// exported is the label names of each metric.
type exported map[string]map[string]bool

var sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
var labelName = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="`)

func scrape(t *testing.T, ops map[string]string) exported {
	t.Helper()
	all := exported{"up": {}} // Prometheus' own
	for name, addr := range ops {
		resp, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			m := sample.FindStringSubmatch(lines.Text())
			if m == nil {
				continue
			}
			if all[m[1]] == nil {
				all[m[1]] = make(map[string]bool)
			}
			for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
				all[m[1]][l[1]] = true
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
	}
	return all
}

// query is one PromQL expression, and labels its presentation speaks of.
type query struct {
	where, expr string
	shown       []string
}

var (
	quoted    = regexp.MustCompile(`"[^"]*"`)
	matchers  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	window    = regexp.MustCompile(`\[[^\]]*\]`)
	word      = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(\s*\()?`)
	keywords  = []string{"and", "or", "unless", "offset", "bool", "by", "without", "sum", "max", "min", "avg", "count", "topk"}
	presented = regexp.MustCompile(`(?:\{\{\s*|\$labels\.)([a-z_]+)`)
)

// byPrometheus are the labels that deploy/prometheus/prometheus.yml adds.
var byPrometheus = []string{"job", "instance", "service", "le"}

// compare says which queries name what is not there.
func compare(queries []query, have exported) (missing []string) {
	for _, q := range queries {
		known := make(map[string]bool)
		for _, l := range byPrometheus {
			known[l] = true
		}
		used := append(labelsOf(grouping.FindAllStringSubmatch(q.expr, -1), 1), q.shown...)

		expr := quoted.ReplaceAllString(q.expr, `""`)
		for _, m := range matchers.FindAllStringSubmatch(expr, -1) {
			for _, l := range labelsOf([][]string{m}, 2) {
				if have[m[1]] != nil && !have[m[1]][l] && !slices.Contains(byPrometheus, l) {
					missing = append(missing, fmt.Sprintf("%s: %s has no label %s", q.where, m[1], l))
				}
			}
		}
		expr = matchers.ReplaceAllString(expr, "$1 ")
		expr = window.ReplaceAllString(grouping.ReplaceAllString(expr, " "), " ")
		for _, m := range word.FindAllStringSubmatch(expr, -1) {
			name := strings.TrimRight(m[0], " (\n")
			if m[1] != "" || slices.Contains(keywords, name) {
				continue
			}
			if have[name] == nil {
				missing = append(missing, fmt.Sprintf("%s: no metric %s", q.where, name))
				continue
			}
			maps.Copy(known, have[name])
		}
		for _, l := range used {
			if !known[l] && len(missing) == 0 {
				missing = append(missing, fmt.Sprintf("%s: none of its metrics has the label %s", q.where, l))
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func labelsOf(found [][]string, group int) (labels []string) {
	for _, m := range found {
		for part := range strings.SplitSeq(m[group], ",") {
			name, _, _ := strings.Cut(part, "=")
			name, _, _ = strings.Cut(name, "!")
			if name = strings.TrimSpace(name); name != "" {
				labels = append(labels, name)
			}
		}
	}
	return labels
}

func alertQueries(t *testing.T) (queries []query) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	read(t, "prometheus/alerts.yml", &file)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			queries = append(queries, query{"alert " + r.Alert, r.Expr, presentedIn(r.Annotations["summary"])})
		}
	}
	return queries
}

func dashboardQueries(t *testing.T) (queries []query) {
	t.Helper()
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	read(t, "grafana/dashboards/fulcrum.json", &file)
	for _, p := range file.Panels {
		for _, target := range p.Targets {
			queries = append(queries, query{"panel " + p.Title, target.Expr, presentedIn(target.LegendFormat)})
		}
	}
	return queries
}

// presentedIn are the labels that a text with {{label}} or {{ $labels.label }}
// shows; {{ $value ... }} is none.
func presentedIn(text string) (labels []string) {
	for _, m := range presented.FindAllStringSubmatch(text, -1) {
		labels = append(labels, m[1])
	}
	return labels
}

// read decodes a file below deploy/, YAML or JSON.
func read(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../../deploy", path))
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(path) == ".json" {
		err = json.Unmarshal(b, into)
	} else {
		err = yaml.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
