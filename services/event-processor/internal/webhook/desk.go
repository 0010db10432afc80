package webhook

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Store keeps endpoints and their secrets. Each change is one transaction that
// also records what happened.
type Store interface {
	// Create keeps an endpoint with its secret. One of the same URL is a Conflict.
	Create(ctx context.Context, by identity.Principal, e Endpoint, s secret.Secret) (Endpoint, error)
	Endpoint(ctx context.Context, tenant, id uuid.UUID) (Endpoint, error)
	Endpoints(ctx context.Context, tenant uuid.UUID) ([]Endpoint, error)
	// Update stores what change makes of an endpoint.
	Update(ctx context.Context, by identity.Principal, id uuid.UUID, change func(*Endpoint) error) (Endpoint, error)
	Delete(ctx context.Context, by identity.Principal, id uuid.UUID) error
	// Rotate makes s what signs, and lets the secret before sign for the overlap.
	Rotate(ctx context.Context, by identity.Principal, id uuid.UUID, s secret.Secret, overlap time.Duration) (oldUntil time.Time, err error)
	Secrets(ctx context.Context, tenant, endpoint uuid.UUID) ([]secret.Secret, error)
}

// Desk is where a tenant looks after its endpoints.
type Desk struct {
	store Store
	send  *Sender
}

// NewDesk returns a Desk over store, whose endpoints send reaches.
func NewDesk(store Store, send *Sender) *Desk { return &Desk{store, send} }

// ByHand is why an endpoint is disabled that a person disabled.
const ByHand = "disabled by hand"

// Create keeps a new endpoint and returns the secret of it.
func (d *Desk) Create(ctx context.Context, by identity.Principal, e Endpoint) (Endpoint, secret.Secret, error) {
	if err := d.check(&e); err != nil {
		return Endpoint{}, secret.Secret{}, err
	}
	e.ID, e.CreatedBy = uuid.Must(uuid.NewV7()), by.Actor()
	s := NewSecret()
	made, err := d.store.Create(ctx, by, e, s)
	return made, s, err
}

// Change is what to change of an endpoint; nil is nothing.
type Change struct {
	URL, Description *string
	Types            *[]string
	Enabled          *bool
}

// Update changes an endpoint.
func (d *Desk) Update(ctx context.Context, by identity.Principal, id uuid.UUID, c Change) (Endpoint, error) {
	return d.store.Update(ctx, by, id, func(e *Endpoint) error {
		if c.URL != nil {
			e.URL = *c.URL
		}
		if c.Description != nil {
			e.Description = *c.Description
		}
		if c.Types != nil {
			e.Types = *c.Types
		}
		switch {
		case c.Enabled == nil:
		case *c.Enabled:
			e.Health = Health{}
		case e.Disabled == "":
			e.Disabled = ByHand
		}
		return d.check(e)
	})
}

func (d *Desk) check(e *Endpoint) error {
	if err := d.send.Check(e.URL); err != nil {
		return err
	}
	if strings.ContainsRune(e.URL+e.Description, 0) {
		return fault.Field("description", "holds a zero byte")
	}
	for _, t := range e.Types {
		if !slices.Contains(Types(), t) {
			return fault.Field("event_types", "has %.64q, which there is not: there are %s", t, strings.Join(Types(), ", "))
		}
	}
	return nil
}

// Endpoints are all of a tenant, newest first.
func (d *Desk) Endpoints(ctx context.Context, tenant uuid.UUID) ([]Endpoint, error) {
	return d.store.Endpoints(ctx, tenant)
}

// Delete forgets an endpoint.
func (d *Desk) Delete(ctx context.Context, by identity.Principal, id uuid.UUID) error {
	return d.store.Delete(ctx, by, id)
}

// Rotate returns a new secret, and until when the old one signs, too.
func (d *Desk) Rotate(ctx context.Context, by identity.Principal, id uuid.UUID, overlap time.Duration) (secret.Secret, time.Time, error) {
	s := NewSecret()
	until, err := d.store.Rotate(ctx, by, id, s, overlap)
	return s, until, err
}

// testTime is how long a person who tests waits.
const testTime = 5 * time.Second

// Test sends a message now, and once.
func (d *Desk) Test(ctx context.Context, by identity.Principal, id uuid.UUID) (message string, r Result, err error) {
	e, err := d.store.Endpoint(ctx, by.Tenant, id)
	if err != nil {
		return "", Result{}, err
	}
	secrets, err := d.store.Secrets(ctx, by.Tenant, id)
	if err != nil {
		return "", Result{}, err
	}
	message = MessageID(uuid.Must(uuid.NewV7()))
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	return message, d.send.Send(ctx, e.URL, message, testBody(by.Tenant, id, time.Now()), secrets), nil
}
