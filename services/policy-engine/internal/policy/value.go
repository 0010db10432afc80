package policy

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/types/known/structpb"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// operand is a value that a condition compares with.
type operand struct {
	kind kind
	str  string
	num  json.Number
	yes  bool
	list []operand
}

// rego returns the operand as a Rego term.
func (o operand) rego() string {
	switch o.kind {
	case text:
		return quote(o.str)
	case number:
		return string(o.num)
	case boolean:
		return strconv.FormatBool(o.yes)
	}
	return "[" + join(o.list) + "]"
}

// value returns an operand that is no list as a Rego value.
func (o operand) value() ast.Value {
	switch o.kind {
	case text:
		return ast.String(o.str)
	case number:
		return ast.Number(o.num)
	}
	return ast.Boolean(o.yes)
}

func join(os []operand) string {
	parts := make([]string, len(os))
	for i, o := range os {
		parts[i] = o.rego()
	}
	return strings.Join(parts, ", ")
}

// quote writes s as a JSON string, which is a Rego string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("a string always marshals: " + err.Error())
	}
	return string(b)
}

func operandOf(v *structpb.Value) (operand, bool) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return operand{kind: text, str: k.StringValue}, true
	case *structpb.Value_NumberValue:
		n, ok := fromFloat(k.NumberValue)
		return operand{kind: number, num: n}, ok
	case *structpb.Value_BoolValue:
		return operand{kind: boolean, yes: k.BoolValue}, true
	}
	return operand{}, false
}

// scalarOf returns the single value of c, if it has one.
func scalarOf(c *policyv1.PolicyCondition) (o operand, ok bool) {
	switch v := c.GetValue().(type) {
	case *policyv1.PolicyCondition_StringValue:
		return operand{kind: text, str: v.StringValue}, true
	case *policyv1.PolicyCondition_IntValue:
		return operand{kind: number, num: json.Number(strconv.FormatInt(v.IntValue, 10))}, true
	case *policyv1.PolicyCondition_FloatValue:
		n, ok := fromFloat(v.FloatValue)
		return operand{kind: number, num: n}, ok
	case *policyv1.PolicyCondition_BoolValue:
		return operand{kind: boolean, yes: v.BoolValue}, true
	}
	return operand{}, false
}

// exactInt is the magnitude up to which every integer is a float64.
const exactInt = 1 << 53

// fromFloat writes a number in the one way that equal numbers share, because
// OPA finds indexed constants by their text. It refuses what JSON cannot hold.
func fromFloat(f float64) (json.Number, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "", false
	}
	if f == math.Trunc(f) && math.Abs(f) < exactInt {
		return json.Number(strconv.FormatInt(int64(f), 10)), true
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), true
}

// fromText reads a JSON number, and nothing else that ParseFloat would take:
// no hexadecimal, no infinity, no underscores.
func fromText(s string) (json.Number, bool) {
	if s == "" || len(s) > 40 || strings.Trim(s, "0123456789+-.eE") != "" {
		return "", false
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && s[0] != '+' {
		return json.Number(strconv.FormatInt(i, 10)), true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !json.Valid([]byte(s)) {
		return "", false
	}
	return fromFloat(f)
}

func numberTerm(n json.Number) *ast.Term { return ast.NewTerm(ast.Number(n)) }

func floatTerm(f float64) (*ast.Term, bool) {
	n, ok := fromFloat(f)
	if !ok {
		return nil, false
	}
	return numberTerm(n), true
}

func intTerm(i int64) *ast.Term { return numberTerm(json.Number(strconv.FormatInt(i, 10))) }
