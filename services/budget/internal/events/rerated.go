package events

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
)

// Rerated tells that charges were corrected by other prices.
func Rerated(r rerate.Report) *busv1.Event {
	return &busv1.Event{
		TenantId:   r.Tenant.String(),
		Stream:     busv1.Stream_STREAM_EVENTS,
		Type:       "charges_rerated",
		Origin:     busv1.Origin_ORIGIN_SYSTEM,
		Writer:     writer,
		OccurredAt: timestamppb.New(r.At),
		Actor:      r.By,
		Action:     "price.rerate",
		Resource:   "rerate:" + r.ID.String(),
		Payload: payload(map[string]any{
			"rerate_id": r.ID.String(), "from": r.From.Format(time.RFC3339Nano), "until": r.Until.Format(time.RFC3339Nano),
			"model": r.Model, "price_version": r.Version, "charges": float64(r.Total.Charges),
			"old_usd": r.Total.Old.USD(), "new_usd": r.Total.New.USD(), "difference_usd": (r.Total.New - r.Total.Old).USD(),
		}),
	}
}
