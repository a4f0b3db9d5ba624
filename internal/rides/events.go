package rides

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// maxReceiving bounds how many events are received at once. Nobody is
// authenticated before the whole body was read, so this bounds what strangers
// can make the process hold in memory, at 16 MB. One of them alone, who sends
// slowly, can't keep Stripe's events out.
const maxReceiving = 64

// A receiver takes Stripe's events.
type receiver struct {
	inbox   inbox
	secrets []string // of Stripe's webhook endpoints
	live    bool
	// account returns the id of the pinned Stripe account, or "" while it isn't
	// known.
	account  func() string
	places   *limit.Places
	received *prometheus.CounterVec
}

func newReceiver(config Config) *receiver {
	if config.StripeAccount == nil {
		config.StripeAccount = func() string { return "" }
	}
	r := &receiver{
		inbox: inbox{pool: config.Pool, unconfirmed: config.Unconfirmed}, secrets: config.EventSecrets,
		live: config.Stripe.Live(), account: config.StripeAccount, places: limit.NewPlaces(maxReceiving),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_stripe_events_received_total", Help: "Events of Stripe's that were received, by what was done with them.",
		}, []string{"result"}),
	}
	if config.Metrics != nil {
		config.Metrics.MustRegister(r.received)
	}
	return r
}

// receive answers POST /v1/stripe/events. The event is in the inbox, durably,
// before it is acknowledged; the completer works it afterwards. The answer 200
// keeps Stripe from sending it again, any other asks it to.
func (rc *receiver) receive(w http.ResponseWriter, r *web.Request) error {
	sender := r.Client()
	if !rc.places.Take(sender) {
		return phases.ErrBusy
	}
	defer rc.places.Give(sender)
	event, err := rc.read(w, r)
	if err != nil {
		rc.received.WithLabelValues("refused").Inc()
		return err
	}
	result, err := rc.take(r.Context(), event)
	if err != nil {
		rc.received.WithLabelValues("failed").Inc()
		return err
	}
	rc.received.WithLabelValues(result).Inc()
	return web.AnswerJSON(w, r, http.StatusOK, map[string]bool{"received": true})
}

// read returns the event that a request holds. The signature is over the bytes
// as they were sent, so nothing is looked at before it was checked.
func (rc *receiver) read(w http.ResponseWriter, r *web.Request) (payments.Event, error) {
	body, err := web.ReadBody(w, r, payments.MaxEvent)
	if refusal, ok := errors.AsType[*web.ProblemError](err); ok && refusal.Problem.Code == web.CodeBodyTooLarge {
		return payments.Event{}, web.NewProblemError(web.CodeSignatureInvalid, err)
	}
	if err != nil {
		return payments.Event{}, err
	}
	event, err := payments.ReadEvent(rc.secrets, r.Header.Values("Stripe-Signature"), body, time.Now())
	switch {
	case errors.Is(err, payments.ErrNotSigned):
		return payments.Event{}, web.NewProblemError(web.CodeSignatureInvalid, err)
	case err != nil:
		return payments.Event{}, web.NewProblemError(web.CodeInvalidJSON, err)
	default:
		return event, nil
	}
}

// take puts an event into the inbox, unless it concerns nothing of ours, and
// returns what it did in one word.
func (rc *receiver) take(ctx context.Context, event payments.Event) (string, error) {
	ours := rc.account()
	switch {
	case event.Object == "":
		return "other_type", nil
	case event.Live != rc.live:
		return "other_mode", nil
	case event.Account != "" && ours == "":
		return "", fmt.Errorf("%w: it is not known yet which Stripe account is ours", phases.ErrUnavailable)
	case event.Account != "" && event.Account != ours:
		return "other_account", nil
	}
	again, err := rc.inbox.add(ctx, event)
	if again {
		return "stored_again", err
	}
	return "stored", err
}
