package pricelist_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
)

var march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

var sample = []pricelist.Entry{
	{Model: "gpt-x", From: march, Rates: pricelist.Rates{Input: 2_500_000_000, Output: 10_000_000_000, CachedInput: 1_250_000_000},
		Tiers: []pricelist.Tier{{Above: 200_000, Rates: pricelist.Rates{Input: 5_000_000_000, Output: 15_000_000_001}}}},
	{Model: "search", From: march.Add(90 * time.Minute), Rates: pricelist.Rates{PerCall: 5_000_000, CacheWrite: 1, Reasoning: 2}},
	{Model: "claude*", Rates: pricelist.Rates{Input: 15_000_000_000, Output: 75_000_000_000}},
	{Model: "gone", From: march, Ended: true},
}

const sampleCSV = `# a comment
model, effective_from, above_input_tokens, input, output, cached_input, cache_write, reasoning, per_call, ended
gpt-x, 2026-03-01, , 2.50, $10, 1.25, , , ,
gpt-x, 2026-03-01, 200000, 5, 15.000000001, , , , ,
search, 2026-03-01T01:30:00Z, , , , , 0.000000001, 0.000000002, 0.005, false
claude*, , , 15, 75, , , , ,
gone, 2026-03-01, , , , , , , , true
`

const sampleYAML = `prices:
- model: gpt-x
  effective_from: 2026-03-01
  input: 2.50
  output: 10
  cached_input: 1.25
  tiers:
  - {above_input_tokens: 200000, input: 5, output: 15.000000001}
- {model: search, effective_from: "2026-03-01T01:30:00Z", per_call: 0.005, cache_write: 0.000000001, reasoning: 0.000000002}
- {model: "claude*", input: 15, output: 75}
- {model: gone, effective_from: 2026-03-01, ended: true}
`

func TestEveryFormSaysTheSame(t *testing.T) {
	t.Parallel()
	written, err := pricelist.YAML(sample)
	if err != nil {
		t.Fatal(err)
	}
	document, err := pricelist.JSON(sample)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"f.json": string(document), "a.csv": sampleCSV, "b.yaml": sampleYAML, "c.csv": string(pricelist.CSV(sample)), "d.yml": string(written),
		"e.json": `[{"model":"gpt-x","effective_from":"2026-03-01","input":2.5,"output":10,"cached_input":1.25,"tiers":[{"above_input_tokens":200000,"input":5,"output":15.000000001}]},
			{"model":"search","effective_from":"2026-03-01T01:30:00Z","per_call":0.005,"cache_write":"0.000000001","reasoning":"0.000000002"},
			{"model":"claude*","input":15,"output":75},{"model":"gone","effective_from":"2026-03-01","ended":true}]`,
	} {
		got, err := pricelist.Parse(name, []byte(text))
		if diff := cmp.Diff(sample, got, cmpopts.IgnoreFields(pricelist.Entry{}, "Line")); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s\n%s", name, err, diff, text)
		}
	}
}

func TestAMalformedFileIsRefusedByLine(t *testing.T) {
	t.Parallel()
	head := "model,effective_from,above_input_tokens,input,output,per_call,ended\n"
	for name, tt := range map[string]struct{ file, text, want string }{
		"empty":               {"a.csv", "", "line 1: the file is empty"},
		"unknown column":      {"a.csv", "model,inptu\nx,1\n", `line 1: there is no column "inptu"`},
		"no model column":     {"a.csv", "input\n1\n", "line 1: there is no column model"},
		"negative":            {"a.csv", head + "x,,,1,1,,\ny,,,-1,1,,\n", "line 3: input cannot be negative"},
		"NaN":                 {"a.csv", head + "x,,,NaN,1,,\n", `line 2: input "NaN" is not an amount`},
		"infinity":            {"a.csv", head + "x,,,Inf,1,,\n", `line 2: input "Inf" is not an amount`},
		"a float's exponent":  {"a.csv", head + "x,,,1e3,1,,\n", `line 2: input "1e3" is not an amount`},
		"overflow":            {"a.csv", head + "x,,,99999999999999999999,1,,\n", "line 2: input"},
		"too dear":            {"a.csv", head + "x,,,1000001,1,,\n", "line 2: input is more than $1000000.00"},
		"too exact":           {"a.csv", head + "x,,,0.0000000001,1,,\n", "line 2: input"},
		"free":                {"a.csv", head + "x,,,0,0,,\n", "line 2: input is missing: a price needs a rate above zero"},
		"free fallback":       {"a.csv", head + "*,,,,,,\n", "line 2: input is missing"},
		"short row":           {"a.csv", head + "x,1\n", "line 2: has 2 cells, the first line has 7"},
		"no model":            {"a.csv", head + ",,,1,1,,\n", "line 2: model is missing"},
		"star in the middle":  {"a.csv", head + "gpt*4,,,1,1,,\n", "line 2: model"},
		"bad date":            {"a.csv", head + "x,2026-02-30,,1,1,,\n", "line 2: effective_from"},
		"twice":               {"a.csv", head + "x,2026-02-01,,1,1,,\nX,2026-02-01,,2,1,,\n", `line 3: model "X" is there already with this effective_from (line 2)`},
		"tier without base":   {"a.csv", head + "x,,5,1,1,,\n", "line 2: above_input_tokens no earlier row"},
		"tier twice":          {"a.csv", head + "x,,,1,1,,\nx,,5,1,1,,\nx,,5,2,1,,\n", "line 2: tiers[1].above_input_tokens must be above 5"},
		"ended with a rate":   {"a.csv", head + "x,,,1,,,true\n", "line 2: ended a price that ends has no rates"},
		"broken quote":        {"a.csv", head + "\"x,,,1,1,,\n", "line 2:"},
		"YAML unknown key":    {"a.yaml", "prices:\n- model: x\n  inptu: 1\n", "line 3: inptu is not known here"},
		"YAML negative":       {"a.yaml", "prices:\n- model: x\n  input: -1\n", "line 2: input cannot be negative"},
		"YAML NaN":            {"a.yaml", "- {model: x, input: .nan}\n", "line 1: input"},
		"YAML twice":          {"a.yaml", "- model: x\n  input: 1\n  input: 2\n", "line 3: input is there twice"},
		"YAML a list of text": {"a.yaml", "- x\n", "line 1: a price is a mapping"},
		"YAML syntax":         {"a.yaml", "prices: [\n", "line"},
		"JSON tier":           {"a.json", `{"prices":[{"model":"x","input":1,"tiers":[{"above_input_tokens":-1,"input":1}]}]}`, "line 1: above_input_tokens"},
		"two documents":       {"a.yaml", "- {model: x, input: 1}\n---\n- {model: y, input: 1}\n", "more than one document"},
		"another form":        {"a.xlsx", "", "not \".xlsx\""},
	} {
		got, err := pricelist.Parse(tt.file, []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %q", name, got, err, tt.want)
		}
	}
}

// Whatever the bytes, a list that is accepted keeps every rule, and is read back
// the same from each form it is written in.
func FuzzParse(f *testing.F) {
	f.Add("a.csv", []byte(sampleCSV))
	f.Add("a.yaml", []byte(sampleYAML))
	f.Add("a.json", []byte(`{"prices":[{"model":"x","input":1}]}`))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		list, err := pricelist.Parse(name, text)
		if err != nil {
			return
		}
		if wrong := pricelist.Check(list); wrong != nil {
			t.Fatalf("accepted: %v", wrong)
		}
		document, err := pricelist.YAML(list)
		if err != nil {
			t.Fatal(err)
		}
		object, err := pricelist.JSON(list)
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range map[string][]byte{"x.csv": pricelist.CSV(list), "x.yaml": document, "x.json": object} {
			again, err := pricelist.Parse(form, text)
			if err != nil || len(again) != len(list) {
				t.Fatalf("%s: %v\n%q", form, err, text)
			}
			for i := range list {
				if !pricelist.Equal(list[i], again[i]) {
					t.Fatalf("%s: %+v became %+v", form, list[i], again[i])
				}
			}
		}
	})
}
