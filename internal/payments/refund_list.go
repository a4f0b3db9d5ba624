package payments

import (
	"cmp"
	"slices"

	stripe "github.com/stripe/stripe-go/v76"
)

// A refundList is the refunds of one payment, the newest first.
type refundList struct {
	all []refundSeen
	// wrong means that a refund isn't one of the payment, or that together they
	// are more than was paid.
	wrong bool
}

// A refundSeen is what is looked at in a refund.
type refundSeen struct {
	id     string
	status stripe.RefundStatus
	amount int64
	own    bool // it carries our operation
}

// add adds a refund of the payment that terms name.
func (l *refundList) add(r *stripe.Refund, terms RefundTerms, paid Paid) {
	if slices.ContainsFunc(l.all, func(seen refundSeen) bool { return seen.id == r.ID }) {
		return // another refund was made while the pages were read
	}
	own := terms.Operation != "" && r.Metadata["operation"] == terms.Operation
	l.all = append(l.all, refundSeen{r.ID, r.Status, r.Amount, own})
	// Ids that aren't words don't come from Stripe, and a row couldn't hold
	// them.
	l.wrong = l.wrong || !isWord(r.ID) || r.PaymentIntent == nil || r.PaymentIntent.ID != terms.IntentID ||
		string(r.Currency) != paid.Currency || r.Amount <= 0 || r.Amount > paid.Amount || l.given().Amount > paid.Amount
}

// open reports whether the money is on its way: Stripe or the bank is still
// working on it, or somebody must do something first. A status that we don't
// know is not final.
func (r refundSeen) open() bool { return !r.succeeded() && !r.failed() }

func (r refundSeen) succeeded() bool { return r.status == stripe.RefundStatusSucceeded }

// failed reports whether the money stays with us. That is final.
func (r refundSeen) failed() bool {
	return r.status == stripe.RefundStatusFailed || r.status == stripe.RefundStatusCanceled
}

// rank orders refunds by how much they say about the payment: one that takes
// effect more than one that failed, then ours more than another's.
func (r refundSeen) rank() int {
	rank := 0
	if !r.failed() {
		rank += 2
	}
	if r.own {
		rank++
	}
	return rank
}

// sum returns the sum of the refunds that is reports true for.
func (l refundList) sum(is func(refundSeen) bool) int64 {
	var sum int64
	for _, r := range l.all {
		if is(r) {
			sum += r.amount
		}
	}
	return sum
}

// own returns the newest refund that carries our operation, or false.
func (l refundList) own() (refundSeen, bool) {
	i := slices.IndexFunc(l.all, func(r refundSeen) bool { return r.own })
	if i < 0 {
		return refundSeen{}, false
	}
	return l.all[i], true
}

// given sums the refunds up.
func (l refundList) given() Given {
	if len(l.all) == 0 {
		return Given{}
	}
	first := slices.MaxFunc(l.all, func(a, b refundSeen) int { return cmp.Compare(a.rank(), b.rank()) })
	open, succeeded := l.sum(refundSeen.open), l.sum(refundSeen.succeeded)
	switch {
	case open > 0:
		return Given{first.id, GivenPending, open + succeeded}
	case succeeded > 0:
		return Given{first.id, GivenSucceeded, succeeded}
	default:
		return Given{first.id, GivenFailed, first.amount}
	}
}

// missing returns what is missing of the payment, if a refund failed.
func (l refundList) missing(paid Paid) Missing {
	missing := Missing{Amount: paid.Amount - l.sum(func(r refundSeen) bool { return !r.failed() })}
	for _, r := range l.all {
		if r.failed() {
			missing.Failed = append(missing.Failed, Given{r.id, GivenFailed, r.amount})
		}
	}
	if missing.Failed == nil || missing.Amount <= 0 {
		return Missing{}
	}
	return missing
}
