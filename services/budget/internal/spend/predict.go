package spend

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// Past is what the predictions learn from.
type Past interface {
	// CallSizes returns how large calls since from were, by model; of the models
	// named, or of all if none is.
	CallSizes(ctx context.Context, tenant uuid.UUID, workflow string, models []string, from time.Time) (map[string][]Size, error)
}

// Work is what a prediction is asked for.
type Work struct {
	Workflow string
	Text     string
	Input    int64    // tokens; 0: counted from Text
	Models   []string // empty: those of the history
	Learn    bool     // from the history
	Lookback time.Duration
}

// Forecast is a prediction: the sum over Models. Cost is the median, Least and
// Most are where one call in ten is cheaper, and one in ten dearer.
type Forecast struct {
	Input, Output     int64
	Cost, Least, Most money.Nano
	Seconds           int64
	Confidence        float64 // 0 to 1: that of the model that is known least
	Sample            int64   // calls it rests on
	Models            []ModelForecast
}

// ModelForecast is the share of one model.
type ModelForecast struct {
	Model  string
	Tokens int64
	Cost   money.Nano
}

// enough is how many calls a history needs before it is believed, and like how
// many of them with an input like the one given.
const (
	enough     = 5
	enoughLike = 20
)

// Predict estimates what one call of each model will cost for the work. An
// unknown model, or none at all, is an Invalid fault.
func Predict(ctx context.Context, past Past, cat *catalog.Catalog, now time.Time, w Work) (Forecast, error) {
	input := w.Input
	if input == 0 {
		input = tokensOf(w.Text)
	}
	var known map[string][]Size
	models := slices.Compact(slices.Sorted(slices.Values(w.Models)))
	if w.Learn {
		var err error
		if known, err = past.CallSizes(ctx, cat.Tenant, w.Workflow, models, now.Add(-w.Lookback)); err != nil {
			return Forecast{}, err
		}
		if len(w.Models) == 0 {
			for model, sizes := range known {
				if callsOf(sizes) >= enough {
					models = append(models, model)
				}
			}
			slices.Sort(models)
		}
	}
	if len(models) == 0 {
		return Forecast{}, fault.Field("model_ids", "is needed: there is no history to learn the models from").WithReason("MODEL_REQUIRED")
	}
	f := Forecast{Confidence: 1}
	for _, model := range models {
		p, priced := cat.Prices.At(model, now)
		one, err := expect(model, input, known[model], p, priced)
		if err != nil {
			return Forecast{}, err
		}
		if err := f.add(model, one); err != nil {
			return Forecast{}, err
		}
	}
	return f, nil
}

func callsOf(sizes []Size) (n int64) {
	for _, s := range sizes {
		n += s.Calls
	}
	return n
}

// call is one call of a model as it is expected.
type call struct {
	input, output, seconds int64
	cost, least, most      money.Nano
	confidence             float64
	sample                 int64
}

func expect(model string, input int64, sizes []Size, p price.Price, priced bool) (call, error) {
	if n := callsOf(sizes); n >= enough {
		return learned(input, sizes, p, priced)
	}
	if !priced {
		return call{}, fault.Field("model_ids", "no price is known for model %q, and no history of it", model).
			WithReason("PRICE_UNKNOWN").WithMeta("model", model).
			WithHint(price.Hint)
	}
	return guessed(input, p)
}

// guessConfidence is that of an answer from the price list alone: how much will
// come out of the model, nobody knows.
const guessConfidence = 0.25

// guessed is for models without a history: half of what goes in comes out, and
// at the most four times that.
func guessed(input int64, p price.Price) (c call, err error) {
	c = call{input: input, output: min(max(input/2, 64), 4096), confidence: guessConfidence}
	if c.cost, err = p.Cost(price.Usage{Input: input, Output: c.output, Calls: 1}); err != nil {
		return c, err
	}
	if c.least, err = p.Cost(price.Usage{Input: input, Cached: input, Calls: 1}); err != nil {
		return c, err
	}
	c.least = min(c.least, c.cost)
	c.most, err = p.Worst(input, 4*c.output, 1)
	return c, err
}

// learned takes the quantiles of calls like it. Each cell counts with its mean:
// priced as such a call is today or, without a price, as it was charged.
func learned(input int64, sizes []Size, p price.Price, priced bool) (call, error) {
	near := sizes
	if input > 0 {
		near = like(sizes, input, enoughLike)
	}
	var inputs, outputs, seconds, costs []weighed
	for _, s := range near {
		weight := float64(s.Calls)
		in := s.per(s.Input)
		if input > 0 {
			in = float64(input)
		}
		cost := s.per(s.CostNano)
		if priced {
			priced, err := p.Cost(price.Usage{Input: int64(in), Output: int64(s.per(s.Output)), Calls: 1})
			if err != nil {
				return call{}, err
			}
			cost = float64(priced)
		}
		inputs, outputs = append(inputs, weighed{in, weight}), append(outputs, weighed{s.per(s.Output), weight})
		seconds, costs = append(seconds, weighed{s.per(s.Seconds), weight}), append(costs, weighed{cost, weight})
	}
	c := call{
		input: int64(math.Round(quantile(inputs, 0.5))), output: int64(math.Round(quantile(outputs, 0.5))),
		seconds: int64(math.Round(quantile(seconds, 0.5))),
		cost:    money.Nano(math.Ceil(quantile(costs, 0.5))),
		least:   money.Nano(quantile(costs, 0.1)),
		most:    money.Nano(math.Ceil(quantile(costs, 0.9))),
		sample:  callsOf(near),
	}
	c.confidence = Confidence(c.sample, float64(c.least), float64(c.most))
	return c, nil
}

// Confidence grows with the sample, to 0.95, and falls as the middle 80 % of it
// lie farther apart: 0.95 · n/(n+10) · 1/(1+σ), where σ = ln(most/least)/2.56 is
// the standard deviation of the logarithm, were it normal.
func Confidence(n int64, least, most float64) float64 {
	sigma := 0.0
	if most > least {
		sigma = math.Log((most+1)/(least+1)) / 2.56
	}
	return 0.95 * float64(n) / float64(n+10) / (1 + sigma)
}

func (f *Forecast) add(model string, c call) (err error) {
	f.Input += c.input
	f.Output += c.output
	f.Seconds += c.seconds
	f.Sample += c.sample
	f.Confidence = min(f.Confidence, c.confidence)
	for _, sum := range []struct {
		to *money.Nano
		n  money.Nano
	}{{&f.Cost, c.cost}, {&f.Least, c.least}, {&f.Most, c.most}} {
		if *sum.to, err = sum.to.Add(sum.n); err != nil {
			return err
		}
	}
	f.Models = append(f.Models, ModelForecast{model, c.input + c.output, c.cost})
	return nil
}

// Level puts a confidence into words.
func Level(confidence float64) string {
	switch {
	case confidence >= 0.8:
		return "high"
	case confidence >= 0.5:
		return "medium"
	}
	return "low"
}

// tokensOf estimates the tokens of a text: four bytes each, rounded up.
func tokensOf(text string) int64 { return int64(len(text)+3) / 4 }
