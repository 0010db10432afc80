package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// word is a flag with few possible values.
type word struct {
	value   string
	allowed []string
}

// Set implements pflag.Value.
func (w *word) Set(s string) error {
	for _, a := range w.allowed {
		if strings.EqualFold(strings.ReplaceAll(s, "_", "-"), a) {
			w.value = a
			return nil
		}
	}
	return fmt.Errorf("must be one of %s%s", strings.Join(w.allowed, ", "), meant(s, w.allowed))
}

func (w *word) String() string { return w.value }

// Type implements pflag.Value.
func (w *word) Type() string { return "word" }

// enum is a protobuf enum with its numbers.
type enum interface {
	~int32
	protoreflect.Enum
}

// enumFlag adds a flag whose values are the enum's names, short and in lower
// case, and returns what reads it.
func enumFlag[E enum](cmd *cobra.Command, name, usage string) func() E {
	var zero E
	values := zero.Descriptor().Values()
	w := &word{}
	numbers := map[string]E{"": 0}
	for i := range values.Len() {
		if v := E(values.Get(i).Number()); v != 0 {
			text := strings.ReplaceAll(strings.ToLower(terminal.Word(v)), "_", "-")
			w.allowed = append(w.allowed, text)
			numbers[text] = v
		}
	}
	cmd.Flags().Var(w, name, usage+": "+strings.Join(w.allowed, ", "))
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(w.allowed, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was defined just now
	}
	return func() E { return numbers[w.value] }
}

// moment is a flag with a point in time: an instant, a day, or how long ago.
type moment struct {
	text string
	at   time.Time
}

// Set implements pflag.Value.
func (m *moment) Set(s string) error {
	m.text = s
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			m.at = t
			return nil
		}
	}
	ago, err := span(s)
	if err != nil {
		return fmt.Errorf("%q is no time: 90m, 24h, 7d, 2w (ago), 2026-01-31, or 2026-01-31T08:00:00Z", s)
	}
	m.at = time.Now().Add(-ago)
	return nil
}

func (m *moment) String() string { return m.text }

// Type implements pflag.Value.
func (m *moment) Type() string { return "time" }

// stamp is nil if the flag was not given.
func (m *moment) stamp() *timestamppb.Timestamp {
	if m.at.IsZero() {
		return nil
	}
	return timestamppb.New(m.at)
}

// length is a flag with a length of time in which days and weeks are known.
type length struct {
	text string
	d    time.Duration
}

// Set implements pflag.Value.
func (l *length) Set(s string) (err error) {
	l.text = s
	l.d, err = span(s)
	return err
}

func (l *length) String() string { return l.text }

// Type implements pflag.Value.
func (l *length) Type() string { return "duration" }

func span(s string) (time.Duration, error) {
	for unit, long := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(s, unit), 10, 16); err == nil && strings.HasSuffix(s, unit) {
			return time.Duration(n) * long, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no length of time: 90s, 30m, 24h, 7d or 2w", s)
	}
	return d, nil
}

// pairs reads k=v arguments.
func pairs(flag string, args []string) (map[string]string, error) {
	out := make(map[string]string, len(args))
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			return nil, usagef("--%s %q is not name=value", flag, a)
		}
		out[k] = v
	}
	return out, nil
}

// structure reads k=v arguments whose values are JSON, or else text. A dot in
// a name reaches into an object.
func structure(flag string, args []string) (*structpb.Struct, error) {
	if len(args) == 0 {
		return nil, nil
	}
	root := map[string]any{}
	for _, a := range args {
		name, text, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, usagef("--%s %q is not name=value", flag, a)
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		at, path := root, strings.Split(name, ".")
		for _, step := range path[:len(path)-1] {
			below, ok := at[step].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[step] = below
			}
			at = below
		}
		at[path[len(path)-1]] = value
	}
	s, err := structpb.NewStruct(root)
	if err != nil {
		return nil, usagef("--%s: %w", flag, err)
	}
	return s, nil
}

// when is a time in a table.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format("2006-01-02 15:04:05Z")
}

// usd is dollars in a table, with as many digits as there are.
func usd(amount float64) string {
	n, err := money.FromUSD(amount)
	if err != nil {
		return fmt.Sprintf("$%g", amount)
	}
	return n.String()
}

// count is a whole number with its thousands apart.
func count[N ~int | ~int32 | ~int64](n N) string {
	digits, negative := strings.CutPrefix(strconv.FormatInt(int64(n), 10), "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if negative {
		return "-" + digits
	}
	return digits
}

// sorted is the keys and values of a map as one text.
func sorted(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
