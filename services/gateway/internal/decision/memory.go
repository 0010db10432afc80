package decision

import (
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Memory remembers envelopes that were seen running. Nothing about an envelope
// changes but its status, and that a running one is still open is checked again
// by the statement that records a decision in it. So a decision may begin
// without reading: if anything has changed, it is not recorded, and starts over
// with a read. A nil Memory remembers nothing.
//
// It also remembers which counters and histories a tenant's policies asked about
// last, so that they are read before the policies are asked and not only after.
type Memory struct {
	running *otter.Cache[place, *envelope.Envelope]
	asked   *otter.Cache[uuid.UUID, asked]
}

type place struct{ tenant, id uuid.UUID }

// NewMemory returns a Memory of at most so many envelopes.
func NewMemory(most int) *Memory {
	return &Memory{
		running: otter.Must(&otter.Options[place, *envelope.Envelope]{MaximumSize: most}),
		asked:   otter.Must(&otter.Options[uuid.UUID, asked]{MaximumSize: most}),
	}
}

func (m *Memory) remember(tenant uuid.UUID, e *envelope.Envelope) {
	if m != nil && e.Standing() == envelope.Running {
		m.running.Set(place{tenant, e.ID}, e)
	}
}

func (m *Memory) forget(tenant, id uuid.UUID) {
	if m != nil {
		m.running.Invalidate(place{tenant, id})
	}
}

// recall prepares a decision from memory alone, and reports whether it could.
//
// What a read would have told is told by the record: a key that was answered
// before is not taken, and its answer is returned; a key with an attempt given
// up finds that attempt's hold closed, or is not taken; an envelope that has
// ended is not open. The hold of a repeated request has the name of the first
// one's, so reserving again holds nothing more.
func (p *Pipeline) recall(a *ask) (bool, error) {
	if p.Memory == nil || !a.recallable || a.req.GetDryRun() || a.req.GetApprovalId() != "" || a.req.GetInline() != nil {
		return false, nil
	}
	if id := a.req.GetEnvelopeId(); id != "" {
		env, ok := p.Memory.running.GetIfPresent(place{a.who.Tenant, parse(id)})
		if !ok {
			return false, nil
		}
		a.env = env
		a.query.Envelope = env.ID
	}
	a.now = time.Now()
	a.reservation = derive("reservation", a.who.Tenant, a.claim, a.now)
	var err error
	a.actor, err = actorOf(a.who, a.env, a.req.GetPrincipal())
	return err == nil, err
}
