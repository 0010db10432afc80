package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

const tailHelp = `It begins with what comes from now
on, or where --from or --since says, and goes on by itself after the connection was
lost, without missing or repeating any. With -o json it writes one object a line.
Ctrl-C ends it; the last line says how to go on from there.`

// following is one tail of the event store.
type following struct {
	request *eventstorev1.StreamEventsRequest
	from    int64
	since   moment
	max     int
	limit   time.Duration

	cursor int64 // the last position seen; 0: none
}

func (f *following) flags(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.from, "from", 0, "begin with this sequence number")
	cmd.Flags().Var(&f.since, "since", "begin with what was stored since then")
	cmd.Flags().IntVar(&f.max, "max", 0, "end after so many; 0: never")
	cmd.Flags().DurationVar(&f.limit, "for", 0, "end after this time; 0: never")
}

// How a lost connection is taken up again: after a short while, then longer
// ones, and not for ever.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 5 * time.Second
	giveUp     = 2 * time.Minute
)

// follow shows every event to show, which reports whether it counts, until the
// person ends it.
func (o *operator) follow(ctx context.Context, cmd *cobra.Command, c *client, f *following, show func(*eventstorev1.StoredEvent) (bool, error)) error {
	if f.from > 0 && f.since.text != "" {
		return usagef("--from and --since are two places to begin: give one")
	}
	if f.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.limit)
		defer cancel()
	}
	if err := f.begin(ctx, c); err != nil {
		return err
	}
	seen, lost, pause := 0, time.Time{}, firstPause
	for {
		err := f.receive(ctx, c, func(e *eventstorev1.StoredEvent) error {
			lost, pause = time.Time{}, firstPause
			counts, err := show(e)
			if err != nil {
				return err
			}
			f.cursor = e.GetStreamSequence()
			if counts {
				seen++
			}
			if f.max > 0 && seen >= f.max {
				return errEnough
			}
			return nil
		})
		switch {
		case ctx.Err() != nil, errors.Is(err, errEnough):
			o.next(cmd, "to go on from here: %s --from %d", cmd.CommandPath(), f.cursor+1)
			return nil
		case !fault.Is(err, fault.Down) && !fault.Is(err, fault.Deadline) && !errors.Is(err, io.EOF):
			return err
		case lost.IsZero():
			lost = time.Now()
			o.say(cmd, "the connection was lost; going on from %d as soon as it is back", f.cursor+1)
		case time.Since(lost) > giveUp:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(longPause, 2*pause)
		}
	}
}

var errEnough = errors.New("that many were wanted")

// begin finds out where to begin, and so whether the server answers at all:
// "from now on" becomes a position, so that nothing is missed later.
func (f *following) begin(ctx context.Context, c *client) error {
	resp, err := c.events.QueryEvents(ctx, &eventstorev1.QueryEventsRequest{Limit: 1})
	if err != nil {
		return err
	}
	switch {
	case f.from > 0:
		f.cursor = f.from - 1
	case f.since.text == "":
		if last := resp.GetEvents(); len(last) > 0 {
			f.cursor = last[0].GetStreamSequence()
		}
	default:
		f.cursor = -1
	}
	return nil
}

func (f *following) receive(ctx context.Context, c *client, each func(*eventstorev1.StoredEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.request.StartPosition = &eventstorev1.StreamEventsRequest_StartSequence{StartSequence: f.cursor + 1}
	if f.cursor < 0 {
		f.request.StartPosition = &eventstorev1.StreamEventsRequest_StartTime{StartTime: f.since.stamp()}
	}
	stream, err := c.events.StreamEvents(ctx, f.request)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := each(m.GetEvent()); err != nil {
			return err
		}
	}
}

func (o *operator) decisionTail() *cobra.Command {
	var agent, envelope string
	f := &following{}
	cmd := &cobra.Command{
		Use: "tail", Short: "Follow decisions as they are made", Args: arguments(), Long: "Follow decisions as they are made. " + tailHelp,
		Example: "  fulcrum decision tail\n  fulcrum decision tail --decision deny --since 1h",
	}
	decision := enumFlag[governancev1.Decision](cmd, "decision", "only those")
	cmd.Flags().StringVar(&agent, "agent", "", "only of this agent")
	cmd.Flags().StringVar(&envelope, "envelope", "", "only in this envelope")
	f.flags(cmd)
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		f.request = &eventstorev1.StreamEventsRequest{EventType: "decision_made"}
		lines := o.ticker(cmd.OutOrStdout(), decisionColumns)
		return o.follow(ctx, cmd, c, f, func(e *eventstorev1.StoredEvent) (bool, error) {
			if envelope != "" && e.GetEnvelopeId() != envelope {
				return false, nil
			}
			resp, err := c.governance.GetDecision(ctx, &governancev1.GetDecisionRequest{DecisionId: e.GetEventId()})
			if fault.Is(err, fault.NotFound) {
				return false, nil // a caller's own event that calls itself so
			}
			if err != nil {
				return false, err
			}
			d := resp.GetDecision()
			if want := decision(); want != 0 && d.GetResponse().GetDecision() != want || agent != "" && d.GetAgentId() != agent {
				return false, nil
			}
			if o.json() {
				return true, terminal.JSONLine(cmd.OutOrStdout(), d)
			}
			return true, lines.row(decisionRow(d)...)
		})
	})
	return cmd
}

// ticker writes the rows of a table that has no end: its columns are as wide
// as what came so far.
type ticker struct {
	out     io.Writer
	color   bool
	columns []string
	widths  []int
}

func (o *operator) ticker(out io.Writer, columns []string) *ticker {
	return &ticker{out: out, color: o.color(out), columns: columns}
}

// row writes one row, after the headings if it is the first.
func (t *ticker) row(cells ...any) error {
	row, first := t.fit(cells), t.widths == nil
	var heads []string
	if first {
		t.widths = make([]int, len(t.columns))
		for _, c := range t.columns {
			heads = append(heads, strings.TrimPrefix(c, ">"))
		}
		t.widen(heads)
	}
	t.widen(row)
	if first {
		if err := t.line(heads, false); err != nil {
			return err
		}
	}
	return t.line(row, t.color)
}

func (t *ticker) fit(cells []any) []string {
	row := make([]string, len(t.columns))
	for i := range row {
		if row[i] = terminal.Clean(fmt.Sprint(cells[i])); row[i] == "" {
			row[i] = "-"
		}
	}
	return row
}

func (t *ticker) widen(row []string) {
	for i, text := range row {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(text))
	}
}

func (t *ticker) line(row []string, color bool) error {
	var b strings.Builder
	for i, text := range row {
		pad := strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(text))
		if color {
			text = terminal.Paint(text)
		}
		b.WriteString(text)
		if i < len(row)-1 {
			b.WriteString(pad + "  ")
		}
	}
	_, err := fmt.Fprintln(t.out, b.String())
	return err
}
