package fakestripe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A delivery is an event on its way to a webhook endpoint.
type delivery struct {
	ID     string `json:"id"`
	Notice string `json:"notice"`
	Shape  string `json:"shape"`
	To     string `json:"to"` // the endpoint's URL
	Due    int64  `json:"due"`
	Until  int64  `json:"until"` // when it is given up; both are Unix nanoseconds by the fake's clock
	// Attempts counts those that failed, and Status is the last one's: 0 means
	// that there was no answer.
	Attempts int `json:"attempts"`
	Status   int `json:"status"`
}

const (
	// giveUpAfter is how long an event is sent again and again.
	giveUpAfter = 72 * time.Hour
	// longestPause is between two attempts.
	longestPause = time.Hour
	// answerTimeout bounds one attempt, and mostSending how many there are at
	// once.
	answerTimeout = 10 * time.Second
	mostSending   = 16
)

// deliveries returns those of a new notice, as the rules say. The caller holds
// the lock.
func (s *Server) deliveries(n *notice) []delivery {
	rule := s.ruleFor(n.Type)
	shapes := []string{rule.Shape}
	if rule.Shape == shapeBoth {
		shapes = []string{shapeSnapshot, shapeThin}
	}
	var all []delivery
	for range max(rule.Times, 1) {
		for _, shape := range shapes {
			for _, to := range s.endpoints {
				if !rule.Never {
					all = append(all, s.delivery(n.ID, shape, to, rule.Delay.draw(s.random)))
				}
			}
		}
	}
	return all
}

// delivery returns one that is due after a delay by the fake's clock.
func (s *Server) delivery(notice, shape, to string, delay time.Duration) delivery {
	due := s.now().Add(delay)
	return delivery{
		ID: newID("dlv"), Notice: notice, Shape: shape, To: to,
		Due: due.UnixNano(), Until: due.Add(giveUpAfter).UnixNano(),
	}
}

// sendEvents sends events until the server is closed.
func (s *Server) sendEvents() {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the server has no context, and Close ends this one
	defer cancel()
	places := make(chan struct{}, mostSending)
	for {
		due, next := s.dueDeliveries()
		for _, d := range due {
			select {
			case places <- struct{}{}:
			case <-s.closing:
				return
			}
			s.sending.Go(func() {
				defer func() { <-places }()
				s.send(ctx, d)
			})
		}
		timer := time.NewTimer(next)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.closing:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// dueDeliveries returns the deliveries that are due and not being sent, in the
// order in which they fell due, and how long it is at most until another one
// is.
func (s *Server) dueDeliveries() (due []delivery, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UnixNano()
	next = time.Minute
	for _, d := range s.state.deliveries {
		switch {
		case s.inDelivery[d.ID]:
		case d.Due <= now:
			due = append(due, d)
			s.inDelivery[d.ID] = true
		default:
			next = min(next, time.Duration(d.Due-now))
		}
	}
	slices.SortStableFunc(due, func(a, b delivery) int { return int(a.Due - b.Due) })
	return due, next
}

// send makes one attempt at a delivery, and notes how it ended. A 2xx ends the
// delivery.
func (s *Server) send(ctx context.Context, d delivery) {
	var body []byte
	var kind string
	var err error
	s.view(func(st *state) {
		if n := st.notices.get(d.Notice); n != nil {
			kind = n.Type
			body, err = n.encode(d.Shape)
		}
	})
	if err == nil {
		d.Status, err = s.post(ctx, d.To, body)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "event", slog.String("type", kind), slog.String("event", d.Notice), slog.String("shape", d.Shape),
		slog.String("to", d.To), slog.Int("status", d.Status), slog.Any("error", err))
	if err := s.note(d); err != nil && !errors.Is(err, errClosed) {
		s.log.LogAttrs(ctx, slog.LevelError, "the fake Stripe has stopped", slog.Any("error", err))
	}
}

// note notes how an attempt has ended.
func (s *Server) note(d delivery) error {
	return s.update(func() error {
		delete(s.inDelivery, d.ID)
		if !slices.ContainsFunc(s.state.deliveries, func(one delivery) bool { return one.ID == d.ID }) {
			return nil // a reset has forgotten it
		}
		done := d.Status >= 200 && d.Status < 300
		d.Attempts++
		d.Due = s.now().Add(min(time.Second<<min(d.Attempts-1, 30), longestPause)).UnixNano()
		if done || d.Due > d.Until {
			return s.commit(&change{Delivered: d.ID})
		}
		return s.commit(&change{Deliveries: []delivery{d}})
	})
}

// post sends an event, signed at this moment: the signature's time is real,
// even if the fake's clock is ahead.
func (s *Server) post(ctx context.Context, to string, body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	request.Header.Set("Stripe-Signature", sign(body, s.secret, time.Now()))
	answer, err := s.courier.Do(request)
	if err != nil {
		return 0, err
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be used again
	return answer.StatusCode, answer.Body.Close()
}

// sign returns the value of Stripe-Signature
// (https://docs.stripe.com/webhooks/signature).
func sign(body []byte, secret string, at time.Time) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Send sends an event in a shape ("snapshot" or "thin") to every endpoint, now,
// whatever the rules say and however often it was sent. It returns an error if
// there is no such event.
func (s *Server) Send(id, shape string) error {
	if shape != shapeSnapshot && shape != shapeThin {
		return fmt.Errorf("an event's shape is %s or %s, not %q", shapeSnapshot, shapeThin, shape)
	}
	return s.update(func() error {
		if s.state.notices.get(id) == nil {
			return fmt.Errorf("there is no event %s", id)
		}
		c := &change{}
		for _, to := range s.endpoints {
			c.Deliveries = append(c.Deliveries, s.delivery(id, shape, to, 0))
		}
		return s.commit(c)
	})
}
