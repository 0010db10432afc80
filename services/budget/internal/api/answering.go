package api

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"google.golang.org/protobuf/proto"

	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// mostResults is how many answers a message has, as many as one may ask for.
const mostResults = 100

// enoughBytes of answers are not added to. With the one that reaches it, a
// message stays far below the size that a client takes: one that was too large
// could never be sent, however often its operations are asked for again.
const enoughBytes = 1 << 20

// answer leaves the answer to an operation that has a slot to the sender. It
// never waits.
func (o *operating) answer(id string, a *budgetv1.OperationResult) {
	a.Id = id
	o.answers <- a
	o.running.Done()
}

// refuse hands answers to operations that have no slot to the sender. It waits
// until the sender takes them, and fails only when the stream is over.
func (o *operating) refuse(results []*budgetv1.OperationResult) error {
	select {
	case o.refused <- results:
		o.unbegun -= len(results)
		o.running.Add(-len(results))
		return nil
	case <-o.ctx.Done():
		return o.ctx.Err()
	}
}

// guarded is what f returns, or a failure if f panics: that is one operation's,
// and no other's.
func (o *operating) guarded(f func() *budgetv1.OperationResult) (a *budgetv1.OperationResult) {
	defer func() {
		if p := recover(); p != nil {
			a = o.l.notDone(o.ctx, fmt.Errorf("an operation panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	return f()
}

// sendWith sends an answer, in one message with others that are there, and lets
// as many operations begin.
func (o *operating) sendWith(first *budgetv1.OperationResult) error {
	// Whoever answers has the rest of a commit at hand and is about to go on.
	runtime.Gosched()
	results := make([]*budgetv1.OperationResult, 1, min(1+len(o.answers), mostResults))
	results[0] = first
	for size := proto.Size(first); len(results) < cap(results) && size < enoughBytes; {
		a := <-o.answers
		results = append(results, a)
		size += proto.Size(a)
	}
	err := o.send(results)
	o.slots.Release(int64(len(results)))
	return err
}

// send sends a message. From then on, the ids in it are free.
func (o *operating) send(results []*budgetv1.OperationResult) error {
	o.mu.Lock()
	for _, a := range results {
		delete(o.underWay, a.GetId())
	}
	o.mu.Unlock()
	return o.stream.Send(&budgetv1.OperateResponse{Results: results})
}
