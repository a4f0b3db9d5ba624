package payments

import (
	"context"
	"errors"
	"slices"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
)

// earlierLife is how much earlier than its row a key may have sent: the row may
// have been lost in a fail-over and made again by a late retry. It also covers
// the difference between Stripe's clock and the database's.
const earlierLife = 30 * 24 * time.Hour

// intents returns a listing of payment intents.
func (s *Stripe) intents() *listing[stripe.PaymentIntent] {
	return newListing(s, callList, intentsPath, func(pi *stripe.PaymentIntent) string { return pi.ID })
}

// errNoCustomer means that there is nobody whose payment intents could be listed.
var errNoCustomer = errors.New("neither the frozen form nor the account names a customer")

// list reads all pages of the payment intents of customers since 30 days before
// a time (all of them, for the zero time). It notes those that carry the
// operation. If anything can't be read, that is the whole answer, because a part
// of the intents proves nothing; so it is if there are no customers.
func (s *Stripe) list(ctx context.Context, since time.Time, operation string, customers []string) *observation {
	if len(customers) == 0 {
		return &observation{call: callList, fault: faultForm, err: errNoCustomer}
	}
	var found []string
	note := func(page []*stripe.PaymentIntent) error {
		for _, intent := range page {
			if intent.Metadata["operation"] == operation && !slices.Contains(found, intent.ID) {
				found = append(found, intent.ID)
			}
		}
		return nil
	}
	last, intents := new(observation), s.intents()
	for _, customer := range customers {
		o := s.listCustomer(ctx, intents, customer, since, note)
		switch {
		case o.hasObject():
			last = o
		case !o.noCustomer():
			return o
		case !last.hasObject():
			last = o
		}
	}
	if last.hasObject() {
		last.found = found
	}
	return last
}

// listCustomer hands all pages of a customer's payment intents to read. If Stripe
// doesn't list them because the customer was deleted, it reads everybody's: what
// the customer paid is still there.
func (s *Stripe) listCustomer(
	ctx context.Context, intents *listing[stripe.PaymentIntent], customer string, since time.Time, read func([]*stripe.PaymentIntent) error,
) *observation {
	o, _ := intents.pages(ctx, listParams(customer, since), read)
	if !o.noCustomer() {
		return o
	}
	asked := s.readCustomer(ctx, customer)
	s.countRow(asked)
	switch {
	case asked.hasObject() && asked.gone:
		o, _ = intents.pages(ctx, listParams("", since), read)
	case !asked.missing():
		o.body = bodyOther // nobody knows whether there are any
	}
	return o
}

// withoutRepeats returns first and rest, each once, and without an empty name: a
// damaged form names no customer, and listParams takes that for everybody.
func withoutRepeats(first string, rest []string) []string {
	var all []string
	for _, name := range append([]string{first}, rest...) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// sinceEarlierLife selects what Stripe made since 30 days before a time.
func sinceEarlierLife(since time.Time) *stripe.RangeQueryParams {
	return &stripe.RangeQueryParams{GreaterThanOrEqual: since.Add(-earlierLife).Unix()}
}

// listParams returns the parameters of a list; an empty customer means all.
func listParams(customer string, since time.Time) *stripe.PaymentIntentListParams {
	params := new(stripe.PaymentIntentListParams)
	if customer != "" {
		params.Customer = new(customer)
	}
	if !since.IsZero() {
		params.CreatedRange = sinceEarlierLife(since)
	}
	return params
}

// An Intent is a payment intent, for an audit, and for what events tell of.
type Intent struct {
	ID, Charge string
	CreatedAt  time.Time // by Stripe's clock
	// Account, Ride and Operation are from the intent's metadata. Operation is
	// empty if the intent isn't ours.
	Account, Ride, Operation string
	// Amount is what was received, in the currency's smallest unit.
	Amount   int64
	Currency string
	// Asked is what was asked for, whether or not it was received.
	Asked int64
	// Succeeded means that the card was charged, Refunded that some of the
	// money was given back since, RefundedInFull that all of it was.
	Succeeded, Refunded, RefundedInFull bool
	// Open means that it has not succeeded, and could be confirmed once more.
	Open bool

	seen paymentIntent
}

// newIntent returns what is looked at in a payment intent.
func newIntent(pi *stripe.PaymentIntent) Intent {
	i := readIntent(pi)
	intent := Intent{
		ID: i.id, Charge: i.chargeID, CreatedAt: time.Unix(pi.Created, 0),
		Account: i.accountID, Ride: i.rideID, Operation: i.operation,
		Amount: i.received, Asked: i.amount, Currency: i.currency,
		Succeeded: i.status == "succeeded", Refunded: i.refunded, RefundedInFull: i.refundedInFull,
		Open: i.canBeConfirmed(), seen: i,
	}
	if !isWord(i.accountID) || !isWord(i.rideID) || !isWord(i.operation) {
		intent.Account, intent.Ride, intent.Operation = "", "", "" // we never wrote these
	}
	return intent
}

// Intents hands every page of the payment intents that Stripe made since 30 days
// before a time to read, the newest first: a ride that is younger than the time
// may have been charged in an earlier life of its key. It returns an error unless
// all pages were read.
func (s *Stripe) Intents(ctx context.Context, since time.Time, read func([]Intent) error) error {
	params := &stripe.PaymentIntentListParams{CreatedRange: sinceEarlierLife(since)}
	params.AddExpand("data.latest_charge")
	return s.intents().all(ctx, params, func(page []*stripe.PaymentIntent) error {
		intents := make([]Intent, 0, len(page))
		for _, pi := range page {
			intents = append(intents, newIntent(pi))
		}
		return read(intents)
	})
}
