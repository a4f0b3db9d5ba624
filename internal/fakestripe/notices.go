package fakestripe

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A notice is what Stripe calls an event: it tells webhook endpoints that an
// object has changed. Each is told in one of two shapes, under an id of its
// own.
type notice struct {
	ID       string `json:"id"`      // as a snapshot event
	ThinID   string `json:"thin_id"` // as a thin event
	Type     string `json:"type"`
	Created  int64  `json:"created"`
	Kind     string `json:"kind"` // of the object
	ObjectID string `json:"object_id"`
	// Object is the object as it was then.
	Object raw `json:"object"`
}

// The shapes of an event (https://docs.stripe.com/event-destinations).
const (
	shapeSnapshot = "snapshot"
	shapeThin     = "thin"
	shapeBoth     = "both"
)

// notify adds to a change the notices of what it changes, and their deliveries.
// The caller holds the lock, and has not applied the change.
func (s *Server) notify(c *change) error {
	if s.secret == "" {
		return nil
	}
	var err error
	add := func(kind, id string, object any, types []string) {
		body, failed := json.Marshal(object)
		if failed != nil {
			err = fmt.Errorf("encoding the object of an event: %w", failed)
		}
		for _, name := range types {
			n := &notice{
				ID: newID("evt"), ThinID: newID("evt_thin"), Type: name, Created: s.now().Unix(),
				Kind: kind, ObjectID: id, Object: body,
			}
			c.Notices = append(c.Notices, n)
			c.Deliveries = append(c.Deliveries, s.deliveries(n)...)
		}
	}
	for _, now := range c.Intents {
		add(now.Object, now.ID, now, now.news(s.state.intents.get(now.ID)))
	}
	for _, now := range c.Charges {
		add(now.Object, now.ID, now, now.news(s.state.charges.get(now.ID)))
	}
	for _, now := range c.Refunds {
		add(now.Object, now.ID, now, now.news(s.state.refunds.get(now.ID)))
	}
	for _, now := range c.Disputes {
		add(now.Object, now.ID, now, now.news(s.state.disputes.get(now.ID)))
	}
	return err
}

// news returns the types of the events that tell what became of an intent that
// was before, or nil, earlier.
func (pi *paymentIntent) news(before *paymentIntent) []string {
	again := before != nil && before.Status == pi.Status && before.LatestCharge.id == pi.LatestCharge.id
	switch {
	case again:
		return nil
	case pi.Status == succeeded, pi.Status == canceled:
		return []string{"payment_intent." + pi.Status}
	case pi.Status == requiresPaymentMethod && pi.LastPaymentError != nil:
		return []string{"payment_intent.payment_failed"}
	default:
		return nil
	}
}

// news is that of a charge.
func (c *charge) news(before *charge) []string {
	if before != nil && c.AmountRefunded > before.AmountRefunded {
		return []string{"charge.refunded"}
	}
	return nil
}

// news is that of a refund.
func (r *refund) news(before *refund) []string {
	switch {
	case before == nil && r.Status == failed:
		return []string{"refund.created", "refund.failed"}
	case before == nil:
		return []string{"refund.created"}
	case before.Status == r.Status:
		return nil
	case r.Status == failed:
		return []string{"charge.refund.updated", "refund.updated", "refund.failed"}
	default:
		return []string{"charge.refund.updated", "refund.updated"}
	}
}

// news is that of a dispute.
func (d *dispute) news(before *dispute) []string {
	inquiry := strings.HasPrefix(d.Status, "warning_")
	switch {
	case before == nil && inquiry:
		return []string{"charge.dispute.created"}
	case before == nil:
		return []string{"charge.dispute.created", "charge.dispute.funds_withdrawn"}
	case before.Status == d.Status:
		return nil
	case d.Status == won:
		return []string{"charge.dispute.closed", "charge.dispute.funds_reinstated"}
	case d.Status == "lost", d.Status == "warning_closed":
		return []string{"charge.dispute.closed"}
	default:
		return []string{"charge.dispute.updated"}
	}
}

// snapshot returns the notice as a snapshot event
// (https://docs.stripe.com/api/events/object).
func (n *notice) snapshot() map[string]any {
	return map[string]any{
		"id": n.ID, "object": "event", "api_version": apiVersion, "created": n.Created, "livemode": false, "type": n.Type,
		"pending_webhooks": 1, "request": map[string]any{"id": nil, "idempotency_key": nil},
		"data": map[string]any{"object": n.Object},
	}
}

// thin returns the notice as a thin event, which doesn't hold the object
// (https://docs.stripe.com/api/v2/core/events/object).
func (n *notice) thin() map[string]any {
	return map[string]any{
		"id": n.ThinID, "object": "v2.core.event", "created": time.Unix(n.Created, 0).UTC().Format("2006-01-02T15:04:05.000Z"),
		"livemode": false, "type": "v1." + n.Type, "context": nil, "reason": nil, "snapshot_event": n.ID,
		"related_object": map[string]any{"id": n.ObjectID, "type": n.Kind, "url": "/v1/" + n.Kind + "s/" + n.ObjectID},
	}
}

// encode returns the notice in a shape, as it is sent.
func (n *notice) encode(shape string) ([]byte, error) {
	event := n.snapshot()
	if shape == shapeThin {
		event = n.thin()
	}
	body, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("encoding event %s: %w", n.ID, err)
	}
	return body, nil
}

// readNotice shows the event in the path.
func readNotice(t *tx) (any, error) {
	n := t.state.notices.get(t.id)
	if n == nil {
		return nil, notFound("event", t.id)
	}
	return n.snapshot(), nil
}

// listNotices lists events.
func listNotices(t *tx) (any, error) {
	kind := t.form.text("type")
	return page(t, "/v1/events", &t.state.notices, func(n *notice) (int64, bool) {
		return n.Created, kind == "" || n.Type == kind
	}, func(n *notice) any { return n.snapshot() })
}

// Event is an event of Stripe's, for checks and for tests that deliver events
// themselves. ID is that of the snapshot event.
type Event struct {
	ID, Type, ObjectID string
}

// Events returns all events, oldest first.
func (s *Server) Events() []Event {
	var all []Event
	s.view(func(st *state) {
		for n := range st.notices.all() {
			all = append(all, Event{ID: n.ID, Type: n.Type, ObjectID: n.ObjectID})
		}
	})
	return all
}

// SignedEvent returns an event in a shape ("snapshot" or "thin"), and the value
// of the header Stripe-Signature with which it is sent at a time. It returns an
// error if there is no such event.
func (s *Server) SignedEvent(id, shape string, at time.Time) (body []byte, signature string, err error) {
	s.view(func(st *state) {
		n := st.notices.get(id)
		if n == nil {
			err = fmt.Errorf("there is no event %s", id)
			return
		}
		body, err = n.encode(shape)
	})
	return body, sign(body, s.secret, at), err
}
