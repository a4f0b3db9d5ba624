package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/pause"
)

// webhookSecret is what the fake Stripe signs its events with.
const webhookSecret = "whsec_chaos0123456789abcdef01"

// A told is an event that Stripe has made, under one id for each shape.
type told struct {
	ID       string `json:"id"`
	ThinID   string `json:"thin_id"`
	Type     string `json:"type"`
	ObjectID string `json:"object_id"`
}

// An inbox is a row of stripe_events.
type inbox struct {
	ID, Type, ObjectID string
	Deliveries         int
	Outcome            *string // nil while it waits, but not for a person
}

// tellAs makes the fake Stripe tell of events by rules.
func (s *stripe) tellAs(ctx context.Context, rules []fakestripe.EventRule) error {
	body, err := json.Marshal(rules)
	if err != nil {
		return fmt.Errorf("encoding rules of events: %w", err)
	}
	return s.again(ctx, func() error {
		return s.call(ctx, http.MethodPost, "/_fake/events", "application/json", string(body), nil)
	})
}

// events returns all events, and how many deliveries nobody has acknowledged
// yet.
func (s *stripe) events(ctx context.Context) (all []told, pending int, err error) {
	var shown struct {
		Events  []told            `json:"events"`
		Pending []json.RawMessage `json:"pending"`
	}
	err = s.call(ctx, http.MethodGet, "/_fake/events", "", "", &shown)
	return shown.Events, len(shown.Pending), err
}

// Once nothing fails any more, events count as stuck if none is worked for
// restEventsFor, or if some are left after restEventsWithin. Thousands may be
// waiting then, and a slow machine needs its time for them.
const (
	restEventsFor    = 90 * time.Second
	restEventsWithin = 10 * time.Minute
)

// restEvents waits until every event that Stripe sends has been taken and
// worked, and every key that an event has let go on is at rest. Events that are
// stuck are left to the checks. The fake's clock is advanced, because it sends
// again what failed, later and later.
func (s *system) restEvents(ctx context.Context) error {
	left, before, since, end := 1, 0, time.Now(), time.Now().Add(restEventsWithin)
	for left > 0 && time.Since(since) < restEventsFor && time.Now().Before(end) && ctx.Err() == nil {
		if err := s.stripe.call(ctx, http.MethodPost, "/_fake/clock", "application/json", `{"advance":"1m"}`, nil); err != nil {
			return err
		}
		_, pending, err := s.stripe.events(ctx)
		if err != nil {
			return err
		}
		waiting, worked, err := s.database.countEvents(ctx)
		if err == nil {
			left = pending + waiting
		}
		if err == nil && worked > before {
			before, since = worked, time.Now()
		}
		_ = pause.For(ctx, time.Second) // the loop looks at ctx itself
	}
	return s.rest(ctx, restBound, s.database.unfinished)
}

// countEvents counts the events that wait, without those that a person must let
// go on, and those that are worked.
func (d *database) countEvents(ctx context.Context) (waiting, worked int, err error) {
	if waiting, err = d.count(ctx, `stripe_events WHERE worked_at IS NULL AND last_error IS DISTINCT FROM 'for_a_person'`); err != nil {
		return 0, 0, err
	}
	worked, err = d.count(ctx, `stripe_events WHERE worked_at IS NOT NULL`)
	return waiting, worked, err
}

func (f *facts) readUnparked(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := collect[struct{ Account, Key string }](ctx, pool, `
		SELECT account_id, data ->> 'key'
		FROM audit_records
		WHERE action = 'key.unparked'`)
	for _, row := range rows {
		f.unparked[rideKey{row.Account, row.Key}] = true
	}
	return err
}

func (f *facts) readInbox(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := collect[inbox](ctx, pool, `
		SELECT id, type, object_id, deliveries, coalesce(outcome, CASE last_error WHEN 'for_a_person' THEN last_error END)
		FROM stripe_events`)
	for _, row := range rows {
		f.inbox[row.ID] = row
	}
	return err
}

// outcomes counts the events by what came of them.
func outcomes(f *facts) map[string]int {
	counts := map[string]int{"made by Stripe": len(f.told), "keys let go on": len(f.unparked)}
	for _, event := range f.inbox {
		if event.Outcome == nil {
			counts["waiting"]++
			continue
		}
		counts[*event.Outcome]++
		counts["deliveries"] += event.Deliveries
	}
	return counts
}

// eventChecks compares what Stripe has told with what came of it.
func eventChecks(f *facts) []check {
	return []check{eventsTaken(f), eventsWorked(f), eventsSettle(f)}
}

// eventsTaken checks that each event that Stripe has sent is in the inbox: it
// sends until an event is acknowledged, and an acknowledged one is never lost
// (I13).
func eventsTaken(f *facts) check {
	c := newCheck("no event that was acknowledged is lost", "I13")
	if f.pending > 0 {
		c.breaks("%d deliveries were never acknowledged", f.pending)
	}
	for _, event := range f.told {
		if event.Type == "charge.refunded" {
			continue // never sent, by the rules
		}
		c.looked++
		_, snapshot := f.inbox[event.ID]
		_, thin := f.inbox[event.ThinID]
		if !snapshot && !thin {
			c.breaks("%s (%s about %s) isn't there", event.ID, event.Type, event.ObjectID)
		}
	}
	return c
}

// eventsWorked checks that each event was worked, or waits for a person to
// decide about its key, and that none found a payment without its ride, or with
// another ride's words (I16, I21).
func eventsWorked(f *facts) check {
	c := newCheck("every event is worked, and finds what is right", "I16", "I21")
	for id, event := range f.inbox {
		c.looked++
		switch outcome := deref(event.Outcome); outcome {
		case "nothing_new", "hastened", "for_a_person", "refund_shown", "closing":
		default:
			c.breaks("%s (%s about %s) came to %q", id, event.Type, event.ObjectID, outcome)
		}
	}
	return c
}

// eventsSettle checks that no key is parked because Stripe didn't know, although
// Stripe has told since that it charged the card (I21).
func eventsSettle(f *facts) check {
	c := newCheck("what Stripe told of is not left parked", "I21")
	c.seldom = true
	charged := map[string]bool{}
	for _, event := range f.inbox {
		charged[event.ObjectID] = charged[event.ObjectID] || event.Type == "payment_intent.succeeded"
	}
	intents := f.intentsOf()
	for id, key := range f.keys {
		if deref(key.Parked) != "stripe_500" && !f.unparked[id] {
			continue
		}
		c.looked++
		for _, intent := range intents[f.rides[id].ID] {
			if key.Parked != nil && intent.paid() && charged[intent.ID] {
				c.breaks("%s is parked for %s, and %s has succeeded", id, *key.Parked, intent.ID)
			}
		}
	}
	return c
}
