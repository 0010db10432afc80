package bench

import (
	"slices"
	"strconv"
	"testing"

	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// sent is the sending half of a stream. It remembers the ids of each message.
type sent struct {
	budgetv1.LedgerService_OperateClient
	messages [][]string
}

func (s *sent) Send(req *budgetv1.OperateRequest) error {
	var ids []string
	for _, op := range req.GetOperations() {
		ids = append(ids, op.GetId())
	}
	s.messages = append(s.messages, ids)
	return nil
}

// numbers are from first to the one before end.
func numbers(first, end int) (ids []string) {
	for i := first; i < end; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	return ids
}

func TestACallerCollectsUntilTheFirstAnswerToItsLastMessage(t *testing.T) {
	t.Parallel()
	calls := &sent{}
	s := &stream{calls: calls, most: 1}
	ask := func(first, end int) {
		for i := first; i < end; i++ {
			if err := s.ask(i, &ledger.Reserve{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []struct {
		name     string
		do       func()
		messages [][]string // that are sent then
	}{
		{"the first hold goes at once, and those behind it wait", func() { ask(0, 151) }, [][]string{numbers(0, 1)}},
		{"its answer lets a whole message go", func() { _ = s.answered(0) }, [][]string{numbers(1, 101)}},
		{"an older answer lets nothing go", func() { _ = s.answered(0) }, nil},
		{"the first answer lets the rest go", func() { _ = s.answered(1) }, [][]string{numbers(101, 151)}},
		{"another answer to the message before lets nothing go", func() { ask(151, 153); _ = s.answered(100) }, nil},
		{"the next one does", func() { _ = s.answered(120) }, [][]string{numbers(151, 153)}},
		{"the last answer finds nothing to send", func() { _ = s.answered(152) }, nil},
		{"and a hold goes at once again", func() { ask(153, 154) }, [][]string{numbers(153, 154)}},
	} {
		calls.messages = nil
		step.do()
		if !slices.EqualFunc(calls.messages, step.messages, slices.Equal) {
			t.Errorf("%s: sent %v, want %v", step.name, calls.messages, step.messages)
		}
	}
}
