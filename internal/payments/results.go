package payments

import (
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// resultTables are the result tables, by the kind of request that they judge.
//
//nolint:gochecknoglobals // tables that nothing writes to
var resultTables = map[string][]resultRow{
	callCharge:   slices.Concat(wireRows(), createdRows(), declineRows(), refusalRows(), badRequestRows(), busyRows()),
	callRead:     slices.Concat(lookRows(), readRows()),
	callList:     slices.Concat(lookRows(), listRows()),
	callCancel:   slices.Concat(failedRows(), cancelRows()),
	callRefund:   slices.Concat(wireRows(), refundRows(), refusalRows(), refusedRefundRows(), busyRows()),
	callRefunds:  slices.Concat(lookRows(), refundsRows()),
	callDisputes: slices.Concat(lookRows(), disputesRows()),
	callCustomer: payerRows(),
	callMethod:   payerRows(),
	callAccount:  accountRows(),
	callEvent:    eventRows(),
}

// A resultRow is one line of a result table. Exactly one row of a table matches
// any observation of its call.
type resultRow struct {
	name   string // for metrics and tests
	when   func(o *observation) bool
	then   verdict
	reason string // for verdictSuspect, verdictLookUp and counts: what the key is parked for
	// backoff replaces the engine's back-off; nil doesn't.
	backoff func(o *observation) phases.Backoff
	// patient means that "nothing found" proves nothing before
	// Config.Saved500After.
	patient bool
	// counts means that the same request would be refused again.
	counts bool
}

// A verdict is what a result means.
type verdict int

const (
	// verdictUnknown: it may have been done. It is the verdict on everything
	// that no row names.
	verdictUnknown verdict = iota
	// verdictTransient: it was certainly not done by this send.
	verdictTransient
	// verdictLookUp: it may have been done, and sending again couldn't tell.
	verdictLookUp
	// verdictNothing: everything was seen, and nothing is conclusive.
	verdictNothing
	verdictCharged
	verdictDeclined
	verdictProcessing
	// verdictSuspect: only a person can tell.
	verdictSuspect
	// verdictRead: the answer doesn't show how things are now, so the intent or
	// the refunds have to be read.
	verdictRead
	// verdictCancel: the intent must be kept from succeeding later.
	verdictCancel
	// verdictAskPayer: whether it is final depends on whether Stripe still has
	// the customer and the payment method.
	verdictAskPayer
	verdictRefunded
	// verdictRefundOpen: Stripe or the bank is still working on it.
	verdictRefundOpen
	// verdictRefundRefused: this refund gives nothing back, for good.
	verdictRefundRefused
	// verdictYes and verdictNo answer a question that decides no charge by
	// itself.
	verdictYes
	verdictNo
)

// The reasons that a key is parked for.
const (
	parkMismatch         = "stripe_mismatch"          // the answer is about something that wasn't asked for
	parkUnexpected       = "stripe_unexpected"        // an answer or a state that this flow can't have
	parkRefunded         = "stripe_refunded"          // charged, and refunded or disputed since
	parkMoreThanOne      = "stripe_more_than_one"     // several payment intents carry one operation
	parkRefusedRequest   = "stripe_400"               // Stripe calls our request wrong
	parkDenied           = "stripe_403"               // Stripe refuses this request, and not our API key
	parkIdempotencyError = "stripe_idempotency_error" // the key was used with other parameters before
	ParkSaved500         = "stripe_500"               // Stripe's saved answer is that it doesn't know
	parkWindowOver       = phases.ReasonWindow        // Stripe is still working on it when the window is over
	parkForm             = "stripe_form"              // the frozen form is damaged, or of another key
	ParkRefundRefused    = "refund_refused"           // Stripe doesn't give back what was taken for a declined ride
)

// countRow returns the row that matches o, and counts it in the metrics.
func (s *Stripe) countRow(o *observation) resultRow {
	row := rowFor(o)
	s.metrics.countResult(o.call, row.name)
	return row
}

// rowFor returns the row that matches o, by the table of o's call. The tests
// prove that there is exactly one.
func rowFor(o *observation) resultRow {
	for _, row := range resultTables[o.call] {
		if row.when(o) {
			return row
		}
	}
	return resultRow{name: "unclassified", then: verdictUnknown}
}

// callError returns the error that the engine acts on, for a row without a
// result. patience is how long "nothing found" proves nothing if the row says
// so.
func (r resultRow) callError(o *observation, patience time.Duration) *phases.CallError {
	failed := &phases.CallError{Class: phases.Unknown, Err: o.asError(), Reason: r.reason, Counts: r.counts}
	if r.backoff != nil {
		failed.Backoff = r.backoff(o)
	}
	if r.then == verdictTransient {
		failed.Class = phases.Transient
	}
	if r.then == verdictLookUp {
		failed.Class = phases.LookUp
	}
	if r.patient {
		failed.Patience = patience
	}
	return failed
}

// inUseBackoff is short, because the other send is about to end.
func inUseBackoff(*observation) phases.Backoff {
	return phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}
}

// maxRetryAfter bounds what an answer can ask for. A wrong or hostile
// Retry-After of hours would outlast the patience of any rider.
const maxRetryAfter = time.Minute

// askedBackoff waits as long as the answer asks for.
func askedBackoff(o *observation) phases.Backoff {
	wait := min(o.retryAfter, maxRetryAfter)
	return phases.Backoff{Initial: wait, Max: wait}
}
