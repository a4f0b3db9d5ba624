package payments

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// ChargeStatus says what Stripe decided about a charge.
type ChargeStatus string

const (
	// ChargeSucceeded means that the money was taken.
	ChargeSucceeded ChargeStatus = "charged"
	// ChargeDeclined means that no money was taken, and none will be.
	ChargeDeclined ChargeStatus = "declined"
	// ChargeProcessing means that Stripe hasn't decided yet.
	ChargeProcessing ChargeStatus = "processing"
	// ChargeSuspect means that only a person can tell: the key is parked.
	ChargeSuspect ChargeStatus = "suspect"
)

// Charge is what Stripe said about the payment of one ride.
type Charge struct {
	Status ChargeStatus
	// ChargeID (ch_…) and IntentID (pi_…) are Stripe's ids of this ride's
	// payment. They are empty if there is none, or if the answer is about
	// somebody else's.
	ChargeID, IntentID string
	// DeclineKind, for ChargeDeclined, is the code of the problem that the
	// client gets: card_declined, authentication_required or payment_failed.
	DeclineKind string
	// DeclineCode, for ChargeDeclined, is Stripe's decline_code or, without
	// one, its error code: insufficient_funds, expired_card …. See
	// https://docs.stripe.com/declines/codes.
	DeclineCode string
	// RetryWithNewKey means that the same card may work in a while. This charge
	// stays declined; another one needs a request with a key of its own.
	RetryWithNewKey bool
	// Reason, for ChargeSuspect, is what the key is parked for: one word.
	Reason string
	// Detail is one line about Stripe's answer, for the audit trail and for the
	// person who has to decide. It holds no secret and nothing about the card.
	Detail string
}

// The kinds of a declined charge.
const (
	declineCard           = "card_declined"
	declineAuthentication = "authentication_required"
	declineOther          = "payment_failed" // it isn't the card's fault
)

// Charge sends what is frozen, once, and returns what Stripe decided. It is the
// Do of a foreign phase. Its error is a *phases.CallError: unknown if the card
// may have been charged, transient if this send certainly didn't charge it,
// look-up if sending again couldn't tell. It counts if Stripe would refuse the
// same request again. If the only send is refused, Charge also reads the
// customer and the payment method: if one of them is gone, that is final.
//
// The call ends with ctx, and the engine's ends before a send would be too late.
// It never sends anything twice, whatever Stripe-Should-Retry says: retries are
// the engine's.
func (s *Stripe) Charge(ctx context.Context, sent phases.Sent[ChargeForm]) (Charge, error) {
	o := s.create(ctx, sent.Key, sent.Form)
	o.first = sent.First
	return s.judge(ctx, o, sent.Form)
}

// CustomersOf returns all Stripe customers that an account has or had. If a
// key's row was lost in a fail-over and made again, its earlier life may have
// charged one of them.
type CustomersOf func(ctx context.Context, account string) ([]string, error)

// FindCharge looks for what an earlier send may have made, and sends no charge.
// It is the Find of a foreign phase. It reads the payment intent named by
// sent.Ref or, without one, all payment intents of the form's customer and of
// the account's since 30 days before the first send. It never uses Stripe's
// search, which lags behind. If the charge will never be sent again, it cancels
// an intent that failed, so that this can't succeed later.
//
// If the form isn't the key's, nothing is looked for: it could name what another
// key has made. Then the result is suspect.
//
// Its error wraps phases.ErrNothingFound if it has seen everything and found
// nothing conclusive. If anything could not be read, the result is unknown, not
// nothing. There is no bound but ctx to how long it takes: an account's list may
// have thousands of pages.
func (s *Stripe) FindCharge(ctx context.Context, sent phases.Sent[ChargeForm], customersOf CustomersOf) (Charge, error) {
	if err := sent.Form.Check(sent.Key); err != nil {
		return s.judge(ctx, &observation{call: callCharge, fault: faultForm, err: err}, sent.Form)
	}
	if sent.Ref != "" {
		o := s.read(ctx, sent.Ref, sent.Form)
		o.settled, o.windowOver = true, sent.WindowOver
		return s.judge(ctx, o, sent.Form)
	}
	terms := sent.Form.terms()
	customers, err := customersOf(ctx, terms.AccountID)
	if err != nil {
		return Charge{}, err
	}
	o := s.list(ctx, sent.FirstSentAt, sent.Key, withoutRepeats(terms.Customer, customers))
	o.windowOver = sent.WindowOver
	return s.judge(ctx, o, sent.Form)
}

// create sends the form under the idempotency key.
func (s *Stripe) create(ctx context.Context, key string, form ChargeForm) *observation {
	if err := form.Check(key); err != nil {
		return &observation{call: callCharge, fault: faultForm, err: err}
	}
	return s.sendForIntent(ctx, request{callCharge, http.MethodPost, intentsPath, key, string(form)}, form, "")
}

// judge finds the row that matches o and does what it says. Some rows ask for
// further requests, whose answers are judged in turn: after a charge or a list
// the intent is read, and after that it may be canceled; after a refused charge
// its customer and payment method are read.
func (s *Stripe) judge(ctx context.Context, o *observation, form ChargeForm) (Charge, error) {
	row := s.countRow(o)
	switch row.then {
	case verdictRead:
		next := s.read(ctx, o.intentID(), form)
		next.settled = o.call == callCharge
		next.windowOver = o.windowOver
		next.earlier = o.failure()
		next.stop, next.alone = o.badRequest(), o.first || o.replayed
		return s.judge(ctx, next, form)
	case verdictCancel:
		next := s.cancel(ctx, o.intent.id, form)
		next.earlier = o.failure()
		next.stop, next.alone = o.stop, o.alone
		return s.judge(ctx, next, form)
	case verdictAskPayer:
		o.payer = s.askPayer(ctx, form.terms())
		return s.judge(ctx, o, form)
	default:
		return row.chargeFor(o, s.saved500After)
	}
}

// chargeFor returns what the row makes of o: a Charge, or the error that the
// engine acts on.
func (r resultRow) chargeFor(o *observation, patience time.Duration) (Charge, error) {
	switch r.then {
	case verdictCharged:
		return o.charge(ChargeSucceeded), nil
	case verdictDeclined:
		return o.declined(), nil
	case verdictProcessing:
		return o.charge(ChargeProcessing), nil
	case verdictSuspect:
		charge := o.charge(ChargeSuspect)
		charge.Reason = r.reason
		return charge, nil
	case verdictNothing:
		return Charge{}, fmt.Errorf("%s: %w", o.text(), phases.ErrNothingFound)
	default:
		return Charge{}, r.callError(o, patience)
	}
}

// charge returns what is known of the charge. An object that isn't ours is
// described, but its ids are left out, because they could end up in the ride's
// row.
func (o *observation) charge(status ChargeStatus) Charge {
	charge := Charge{Status: status}
	if status != ChargeSucceeded { // nobody reads about those
		charge.Detail = o.text()
	}
	if o.ours {
		charge.IntentID, charge.ChargeID = o.intent.id, o.intent.chargeID
	}
	return charge
}

func (o *observation) declined() Charge {
	why := o.failure()
	charge := o.charge(ChargeDeclined)
	if o.stop || o.payer == payerGone {
		charge.DeclineKind = declineOther
		return charge
	}
	charge.DeclineKind = declineCard
	if why.code == declineAuthentication || why.declineCode == declineAuthentication {
		charge.DeclineKind = declineAuthentication
	}
	charge.DeclineCode = safeWord(why.declineCode)
	if why.declineCode == "" {
		charge.DeclineCode = safeWord(why.code)
	}
	charge.RetryWithNewKey = slices.Contains(softCodes(), why.declineCode) || slices.Contains(softCodes(), why.code)
	return charge
}

// softCodes are the declines after which the same card may work in a while. See
// https://docs.stripe.com/declines/codes.
func softCodes() []string {
	return []string{"try_again_later", "processing_error", "issuer_not_available"}
}
