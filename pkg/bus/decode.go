package bus

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

type delivery struct {
	msg     jetstream.Msg
	message Message
}

// decode reads a message and holds its payload's tenant to its subject's.
func decode(msg jetstream.Msg) (delivery, error) {
	d := delivery{msg: msg}
	if meta, err := msg.Metadata(); err == nil {
		d.message.StreamSequence, d.message.Deliveries = meta.Sequence.Stream, int(meta.NumDelivered)
	}
	var e busv1.Event
	if err := proto.Unmarshal(msg.Data(), &e); err != nil {
		return d, fmt.Errorf("not an event: %w", err)
	}
	d.message.Event = &e
	if got, want := e.GetTenantId(), tenantOf(msg.Subject()); got != want {
		return d, fmt.Errorf("event of tenant %q came on the subject of tenant %q", got, want)
	}
	return d, nil
}
