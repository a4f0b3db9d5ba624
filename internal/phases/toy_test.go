package phases_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The flow under test has nothing to do with rides: a parcel is packed, a
// carrier is booked, and a label is printed. The booking is the foreign call.
const (
	packed = "packed"
	booked = "booked"
)

type (
	bookingForm string
	booking     struct {
		Number string
		Status string // booked, refused, working, odd
		poison any    // what is sent to the database instead of Number
	}
)

func parcels(c *carrier, version int) phases.Flow {
	return phases.NewFlow("parcel", version,
		phases.Atomic(packed, c.pack),
		phases.Foreign(booked, phases.Call[bookingForm, booking]{
			Prepare: c.prepare, Do: c.do, Find: c.find, Record: record,
		}),
		phases.Atomic(phases.Finished, printLabel),
	)
}

func (c *carrier) pack(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	if hook := c.hooks().pack; hook != nil {
		if outcome, err := hook(tx, key); err != nil || outcome != nil {
			return decided(outcome), err
		}
	}
	tx.QueueOnce(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
	phases.Know(tx, booking{Number: "out of date"})
	return phases.Advance(), nil
}

func decided(outcome *phases.Outcome) phases.Outcome {
	if outcome == nil {
		return phases.Outcome{}
	}
	return *outcome
}

func (c *carrier) prepare(_ *phases.Tx, key phases.Key, _ string) (bookingForm, phases.Outcome, error) {
	form := "parcel=" + key.Key
	if tariff := c.hooks().tariff; tariff != "" {
		form += "&tariff=" + tariff
	}
	return bookingForm(form), phases.Advance(), nil
}

func record(tx *phases.Tx, key phases.Key, _ bookingForm, b booking) (phases.Outcome, error) {
	switch b.Status {
	case "booked":
		// Not idempotent, on purpose: run twice it would show.
		tx.Queue(`UPDATE parcels SET booking = $3, writes = writes + 1 WHERE account_id = $1 AND key = $2`,
			key.Account, key.Key, cmp.Or(b.poison, any(b.Number)))
		phases.Know(tx, b)
		return phases.Advance(), nil
	case "refused":
		return phases.Finish(402, nil, []byte("refused")), nil
	case "working":
		return phases.Wait(10*time.Millisecond, b.Number), nil
	default:
		return phases.Park("odd_booking", b.Status), nil
	}
}

func printLabel(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	b, ok := phases.Known[booking](tx)
	if !ok {
		err := tx.QueryRow(`SELECT booking FROM parcels WHERE account_id = $1 AND key = $2`, key.Account, key.Key).Scan(&b.Number)
		if err != nil {
			return phases.Outcome{}, fmt.Errorf("reading parcel: %w", err)
		}
	}
	tx.Queue(`UPDATE parcels SET labels = labels + 1, writes = writes + 1 WHERE account_id = $1 AND key = $2`, key.Account, key.Key)
	return phases.Finish(201, map[string]string{"Content-Type": "text/label", "X-Label": "yes"}, []byte("label "+b.Number)), nil
}

// carrier is the other side. It books once per foreign key and replays its
// answer, as Stripe does, and it records every send.
type carrier struct {
	mu       sync.Mutex
	bookings map[string]booking // by foreign key
	sends    []send
	finds    int
	// poison is what the booking of the send with this number is poisoned with.
	poison   any
	poisonAt int
	hook     hooks
}

type send struct {
	key  string
	form string
	sent phases.Sent[bookingForm]
}

// hooks change the carrier's and the flow's behaviour for one test.
type hooks struct {
	// pack replaces the first phase, if it returns an outcome or an error.
	pack func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error)
	// before runs before the carrier books; an error ends the call unbooked.
	before func(ctx context.Context, n int) error
	// after runs after it has booked; an error loses the answer.
	after func(ctx context.Context, n int) error
	// answer is what it answers instead of booked.
	answer string
	// look runs before the look-up; an error ends it.
	look func(ctx context.Context) error
	// find replaces the look-up.
	find   func(sent phases.Sent[bookingForm]) (booking, error)
	tariff string
}

func newCarrier() *carrier { return &carrier{bookings: map[string]booking{}} }

func (c *carrier) set(h hooks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = h
}

func (c *carrier) hooks() hooks {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hook
}

func (c *carrier) do(ctx context.Context, sent phases.Sent[bookingForm]) (booking, error) {
	c.mu.Lock()
	c.sends = append(c.sends, send{key: sent.Key, form: string(sent.Form), sent: sent})
	n, hook := len(c.sends), c.hook
	c.mu.Unlock()
	if hook.before != nil {
		if err := hook.before(ctx, n); err != nil {
			return booking{}, err
		}
	}
	b := c.book(sent.Key, hook.answer)
	if n == c.poisonAt {
		b.poison = c.poison
	}
	if hook.after != nil {
		if err := hook.after(ctx, n); err != nil {
			return booking{}, err
		}
	}
	return b, nil
}

func (c *carrier) book(key, status string) booking {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.bookings[key]; ok {
		return b
	}
	if status == "" {
		status = "booked"
	}
	b := booking{Number: fmt.Sprintf("B%d", len(c.bookings)+1), Status: status}
	c.bookings[key] = b
	return b
}

func (c *carrier) find(ctx context.Context, sent phases.Sent[bookingForm]) (booking, error) {
	if look := c.hooks().look; look != nil {
		if err := look(ctx); err != nil {
			return booking{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finds++
	if c.hook.find != nil {
		return c.hook.find(sent)
	}
	if b, ok := c.bookings[sent.Key]; ok {
		return b, nil
	}
	return booking{}, phases.ErrNothingFound
}

func (c *carrier) sent() []send {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]send(nil), c.sends...)
}

func (c *carrier) found() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finds
}

var errLost = errors.New("the answer was lost")
