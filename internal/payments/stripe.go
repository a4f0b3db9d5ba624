// Package payments charges cards at Stripe, finds out what became of a charge
// whose answer was lost, and judges Stripe's answers by tables. It alone
// imports stripe-go.
package payments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

const (
	intentsPath = "/v1/payment_intents"
	// listLimit is the most that Stripe returns in a page.
	listLimit = 100
	// listMargin is how much the clocks of Stripe and of our database may
	// differ.
	listMargin = time.Hour
)

// Stripe charges cards. It is safe for concurrent use; one process needs one,
// because what it learns of a refused API key holds for all requests.
type Stripe struct {
	backend       stripe.Backend
	key           string
	timeout       time.Duration
	saved500After time.Duration
	refused       *gobreaker.CircuitBreaker[observation]
	log           *slog.Logger
	meters        *stripeMeters
}

// NewStripe returns a Stripe. The error is one sentence for whoever configures
// the program, without the key.
func NewStripe(config Config) (*Stripe, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	meters, err := newStripeMeters(config.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of Stripe: %w", err)
	}
	return &Stripe{
		backend:       newBackend(config),
		key:           config.Key,
		timeout:       config.Timeout,
		saved500After: config.Saved500After,
		refused:       newRefusedBreaker(config.RefusedPause, meters),
		log:           cmp.Or(config.Logger, slog.New(slog.DiscardHandler)),
		meters:        meters,
	}, nil
}

// newBackend returns stripe-go without all that it does by itself: no second
// tries (they outlast a lease, and sleep through a canceled context), no
// telemetry, no log of its own, no redirects, no shared client.
func newBackend(config Config) stripe.Backend {
	transport := config.Transport
	if transport == nil {
		transport = newTransport(config.Timeout)
	}
	return stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		EnableTelemetry: new(false),
		HTTPClient: &http.Client{
			Transport:     stripeWire{next: transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: new(int64(0)),
		URL:               new(cmp.Or(config.URL, stripeURL)),
	})
}

// NewChargeForm returns the form that charges terms. The same terms make the
// same bytes.
func NewChargeForm(terms ChargeTerms) ChargeForm {
	var values form.Values
	form.AppendTo(&values, &stripe.PaymentIntentParams{
		Amount:             new(terms.Amount),
		Currency:           new(terms.Currency),
		Customer:           new(terms.Customer),
		PaymentMethod:      new(terms.PaymentMethod),
		Confirm:            new(true),
		OffSession:         new(true),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
		Description:        new(terms.Description),
		Metadata: map[string]string{
			"ride_id":    terms.RideID,
			"account_id": terms.AccountID,
			"operation":  terms.Operation,
		},
	})
	return ChargeForm(values.Encode())
}

// values returns the form as stripe-go sends it, or an error when that would be
// other bytes than the frozen ones.
func (f ChargeForm) values() (*form.Values, error) {
	values := new(form.Values)
	for pair := range strings.SplitSeq(string(f), "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, errName := url.QueryUnescape(name)
		value, errValue := url.QueryUnescape(value)
		if err := errors.Join(errName, errValue); err != nil {
			return nil, errors.New("the frozen form isn't form-encoded")
		}
		values.Add(name, value)
	}
	if values.Encode() != string(f) {
		return nil, errors.New("the frozen form would be sent as other bytes")
	}
	return values, nil
}

// create sends the form under the idempotency key, which its metadata must
// carry too: otherwise what it makes could not be found again.
func (s *Stripe) create(ctx context.Context, key string, charge ChargeForm) observation {
	values, err := charge.values()
	if err == nil && charge.Operation() != key {
		err = errors.New("the frozen form belongs to another idempotency key")
	}
	if err != nil {
		return observation{call: callCharge, fault: faultForm, err: err}
	}
	return s.intent(ctx, callCharge, stripeRequest{http.MethodPost, intentsPath, key, values}, charge)
}

// read asks for a payment intent with its latest charge.
func (s *Stripe) read(ctx context.Context, id string, charge ChargeForm) observation {
	values := new(form.Values)
	values.Add("expand[]", "latest_charge")
	path := stripe.FormatURLPath(intentsPath+"/%s", id)
	return s.intent(ctx, callRead, stripeRequest{http.MethodGet, path, "", values}, charge).about(id)
}

// cancel makes sure that a payment intent never succeeds. Its idempotency key
// is derived from the charge's, so that a second attempt repeats the first.
func (s *Stripe) cancel(ctx context.Context, id string, charge ChargeForm) observation {
	values := new(form.Values)
	values.Add("cancellation_reason", "abandoned")
	path := stripe.FormatURLPath(intentsPath+"/%s/cancel", id)
	return s.intent(ctx, callCancel, stripeRequest{http.MethodPost, path, charge.Operation() + "-cancel", values}, charge).about(id)
}

// intent makes a request whose answer is a payment intent.
func (s *Stripe) intent(ctx context.Context, call string, r stripeRequest, charge ChargeForm) observation {
	answer := new(stripe.PaymentIntent)
	o := s.ask(ctx, call, r, answer)
	if o.object() && (answer.Object != "payment_intent" || answer.ID == "") {
		o.body = bodyOther // stripe-go reads {} as an intent without an id
	}
	if o.object() {
		o.intent = readIntent(answer)
	}
	o.ours = charge.asked(o.intent)
	return o
}

// An intentPage is one page of a list. Its fields are pointers, because a
// document that lacks them is no empty list: stripe-go's own type couldn't
// tell.
type intentPage struct {
	stripe.APIResource
	Object  string                   `json:"object"`
	Data    *[]*stripe.PaymentIntent `json:"data"`
	HasMore *bool                    `json:"has_more"`
}

// list reads all pages of the customer's payment intents since an hour before
// the first send, and notes those that carry the charge's operation.
func (s *Stripe) list(ctx context.Context, firstSentAt time.Time, charge ChargeForm) observation {
	var found []string
	o, _ := s.pages(ctx, listParams(firstSentAt, charge), func(page []*stripe.PaymentIntent) error {
		for _, intent := range page {
			if intent.Metadata["operation"] == charge.Operation() && !slices.Contains(found, intent.ID) {
				found = append(found, intent.ID)
			}
		}
		return nil
	})
	if o.object() {
		o.found = found
	}
	return o
}

// pages hands each page of a list to read, the newest first. A page that cannot
// be read is the whole answer: a part of the list shows nothing. An error is
// one of read's.
func (s *Stripe) pages(
	ctx context.Context, params *stripe.PaymentIntentListParams, read func([]*stripe.PaymentIntent) error,
) (observation, error) {
	for after := ""; ; {
		page, o := s.page(ctx, params)
		if !o.object() {
			return o, nil
		}
		last, ok := page.last()
		if !ok || *page.HasMore && (last == "" || last == after) {
			o.body = bodyOther
			return o, nil
		}
		if err := read(*page.Data); err != nil || !*page.HasMore {
			return o, err
		}
		after = last
		params.StartingAfter = new(after)
	}
}

// page reads one page of a list.
func (s *Stripe) page(ctx context.Context, params *stripe.PaymentIntentListParams) (*intentPage, observation) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	page, values := new(intentPage), new(form.Values)
	form.AppendTo(values, params)
	return page, s.ask(ctx, callList, stripeRequest{http.MethodGet, intentsPath, "", values}, page)
}

// An Intent is what an audit compares of a payment intent.
type Intent struct {
	ID, Charge string
	// Account, Ride and Operation are what the intent's metadata says;
	// Operation is empty in an intent that isn't ours.
	Account, Ride, Operation string
	// Amount is what was received, in the currency's minor unit.
	Amount   int64
	Currency string
	// Succeeded tells that the card was charged, Refunded that some of it was
	// given back since, RefundedInFull that all of it was.
	Succeeded, Refunded, RefundedInFull bool
}

// Intents hands every page of the payment intents that Stripe made since a time
// to read, the newest first. Either all pages were read, or it returns an
// error.
func (s *Stripe) Intents(ctx context.Context, since time.Time, read func([]Intent) error) error {
	params := &stripe.PaymentIntentListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()}}
	params.Limit = new(int64(listLimit))
	params.AddExpand("data.latest_charge")
	o, err := s.pages(ctx, params, func(page []*stripe.PaymentIntent) error {
		intents := make([]Intent, 0, len(page))
		for _, pi := range page {
			i := readIntent(pi)
			intents = append(intents, Intent{
				ID: i.id, Charge: i.chargeID, Account: i.accountID, Ride: i.rideID, Operation: i.operation,
				Amount: i.received, Currency: i.currency,
				Succeeded: i.status == "succeeded", Refunded: i.refunded, RefundedInFull: i.refundedInFull,
			})
		}
		return read(intents)
	})
	if err == nil && !o.object() {
		err = o.failureText()
	}
	return err
}

func listParams(firstSentAt time.Time, charge ChargeForm) *stripe.PaymentIntentListParams {
	params := &stripe.PaymentIntentListParams{Customer: new(charge.Customer())}
	params.Limit = new(int64(listLimit))
	if !firstSentAt.IsZero() {
		params.CreatedRange = &stripe.RangeQueryParams{GreaterThanOrEqual: firstSentAt.Add(-listMargin).Unix()}
	}
	return params
}

// last returns the id of the page's last intent; false when the page is none.
func (p *intentPage) last() (string, bool) {
	if p.Object != "list" || p.Data == nil || p.HasMore == nil {
		return "", false
	}
	last := ""
	for _, intent := range *p.Data {
		if intent == nil || intent.ID == "" {
			return "", false
		}
		last = intent.ID
	}
	return last, true
}

// A stripeRequest is one HTTP request to Stripe. A POST must have an
// idempotency key.
type stripeRequest struct {
	method, path, key string
	values            *form.Values
}

// ask makes a request, unless Stripe refused our API key a moment ago.
func (s *Stripe) ask(ctx context.Context, call string, r stripeRequest, answer stripe.LastResponseSetter) observation {
	return s.unlessRefused(ctx, call, func() observation { return s.send(ctx, r, answer) })
}

// send makes a request by stripe-go, and tells what came of it by what was seen
// on the wire.
func (s *Stripe) send(ctx context.Context, r stripeRequest, answer stripe.LastResponseSetter) observation {
	seen := &exchange{key: r.key}
	params := &stripe.Params{Context: seen.watch(ctx)}
	if r.method != http.MethodGet {
		params.SetIdempotencyKey(r.key)
	}
	err := s.backend.CallRaw(r.method, r.path, s.key, r.values, params, answer)
	o := seen.observation(err)
	var problem *stripe.Error
	switch {
	case o.fault != faultNone:
	case err == nil:
		o.body = bodyObject
	case errors.As(err, &problem) && problem.Type != "":
		o.body = bodyError
		o.problem = readProblem(problem)
		if problem.PaymentIntent != nil {
			o.intent = readIntent(problem.PaymentIntent)
		}
	}
	return o
}

func readProblem(e *stripe.Error) stripeProblem {
	if e == nil {
		return stripeProblem{}
	}
	return stripeProblem{
		kind:        string(e.Type),
		code:        string(e.Code),
		declineCode: string(e.DeclineCode),
		param:       e.Param,
		message:     e.Msg,
	}
}

func readIntent(pi *stripe.PaymentIntent) paymentIntent {
	intent := paymentIntent{
		id:        pi.ID,
		status:    string(pi.Status),
		amount:    pi.Amount,
		received:  pi.AmountReceived,
		currency:  string(pi.Currency),
		rideID:    pi.Metadata["ride_id"],
		accountID: pi.Metadata["account_id"],
		operation: pi.Metadata["operation"],
		failure:   readProblem(pi.LastPaymentError),
	}
	if pi.Customer != nil {
		intent.customer = pi.Customer.ID
	}
	if charge := pi.LatestCharge; charge != nil {
		intent.chargeID = charge.ID
		intent.chargePaid = charge.Paid && charge.Captured
		intent.refunded = charge.Refunded || charge.AmountRefunded > 0
		intent.refundedInFull = charge.Refunded
		intent.disputed = charge.Disputed
		if intent.failure == (stripeProblem{}) {
			intent.failure = stripeProblem{code: charge.FailureCode, message: charge.FailureMessage}
		}
	}
	return intent
}
