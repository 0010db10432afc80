package chaos

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Fulcrum is killed at random moments under load, with its database or alone,
// and started again on what is left. What callers were told holds; what they
// repeat has happened once; no budget was ever beyond its limit.
func TestNothingThatWasAnsweredIsLostInACrash(t *testing.T) {
	t.Parallel()
	s := lab.New(t)
	c := newCrowd(t, s)
	db := s.Database(t)
	log := headOf(t, c.tenant.Owner)
	if err := s.SlowDisk(t.Context(), 30*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for round := range rounds(3, 20) {
		c.tighten(t)
		stopWatching := c.watchLimits(t, db)
		stop := c.run(t.Context())
		c.awaitAnswers(t, 300)
		moment := time.NewTimer(rand.N(400 * time.Millisecond))
		<-moment.C // any moment: this is what is tried, not something waited for
		how := "all at once"
		if round%2 == 1 {
			how = "the services only"
		}
		killed := make(chan error, 1)
		go func() {
			if round%2 == 1 {
				killed <- s.KillMain(t.Context())
				return
			}
			s.Kill()
			killed <- nil
		}()
		c.awaitOutage(t, 1)
		stop()
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		stopWatching()
		lost := c.unheard()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.finish(t)
		c.outagesOnly(t)
		c.account(t, db)
		c.repeat(t)
		log = log.extends(t, c.tenant.Owner)
		t.Logf("round %d: killed %s; %d actions so far, %d calls repeated; audit log of %d entries", round, how, len(c.actions), lost, log.size)
		if t.Failed() {
			t.FailNow()
		}
	}
}

// repeat asks again, under the same keys, what was answered long ago.
func (c *crowd) repeat(t *testing.T) {
	t.Helper()
	for range 50 {
		a := c.actions[rand.IntN(len(c.actions))]
		resp, err := c.client.Governance.Authorize(t.Context(), a.ask)
		if err != nil {
			t.Error(err)
		} else if resp.GetDecisionId() != a.answer.GetDecisionId() {
			t.Errorf("key %s was answered with decision %s, and now with %s", a.ask.GetIdempotencyKey(), a.answer.GetDecisionId(), resp.GetDecisionId())
		}
		if a.settled == nil {
			continue
		}
		if again, err := c.client.Governance.Settle(t.Context(), a.settle); err != nil {
			t.Error(err)
		} else if again.GetCharged().GetCostNano() != a.settled.GetCharged().GetCostNano() {
			t.Errorf("decision %s was settled with %v, and now with %v", a.answer.GetDecisionId(), a.settled, again)
		}
	}
}
