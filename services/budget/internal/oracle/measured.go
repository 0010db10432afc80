package oracle

import (
	_ "embed" // measured.json
	"encoding/json"
	"sync"
)

// Version names the model; it changes with its constants and formulas.
const Version = "level-profile-1"

// Error is how far predictions fell from what came, on windows that nothing was
// learned from; naive is spending on as since the window's start.
type Error struct {
	Windows    int          `json:"windows"`
	MAPE       float64      `json:"mape"` // of the window's total
	NaiveMAPE  float64      `json:"naive_mape"`
	Coverage   float64      `json:"coverage"` // of the 80 % interval
	Brier      float64      `json:"brier"`    // of the probability of an overrun
	NaiveBrier float64      `json:"naive_brier"`
	Shapes     []ShapeError `json:"shapes"`
}

// ShapeError is the same for one way of spending.
type ShapeError struct {
	Shape      string  `json:"shape"`
	MAPE       float64 `json:"mape"`
	NaiveMAPE  float64 `json:"naive_mape"`
	Coverage   float64 `json:"coverage"`
	Brier      float64 `json:"brier"`
	NaiveBrier float64 `json:"naive_brier"`
}

// measured.json is written by the backtest, which also fails when it is not true
// any more.
//
//go:embed measured.json
var measured []byte

// Measured is the error as it was last measured. Do not change its Shapes.
var Measured = sync.OnceValue(func() (e Error) {
	if err := json.Unmarshal(measured, &e); err != nil {
		panic("oracle: measured.json: " + err.Error()) // it is built in
	}
	return e
})
