package crash

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// A check holds an invariant of internal/phases against the evidence of a
// trial. It reports whether the trial had anything to say about the invariant,
// and each violation.
type check struct {
	invariant string
	run       func(*evidence) (applies bool, violations []string)
}

// evidence is what a trial left behind: its run, the last snapshot, and what
// Stripe has.
type evidence struct {
	*run
	final     snapshot
	sends     []fakestripe.Send // charges or refunds that arrived whole
	intents   []fakestripe.PaymentIntent
	succeeded []fakestripe.PaymentIntent
	refunds   []fakestripe.Refund
}

// evidence collects what the run left behind.
func (r *run) evidence() *evidence {
	e := &evidence{run: r, final: r.last(), sends: r.sends(), intents: r.fake.PaymentIntents(), refunds: r.fake.Refunds()}
	for _, intent := range e.intents {
		if intent.Status == "succeeded" {
			e.succeeded = append(e.succeeded, intent)
		}
	}
	return e
}

// hailChecks are the checks of a hail.
var hailChecks = []check{
	{"I1", (*evidence).oneCharge},
	{"I2", (*evidence).successIsWhole},
	{"I3", (*evidence).declineIsFree},
	{"I4", notForgotten((*evidence).moneyIsTaken, charged)},
	{"I5", duringRun("I5")},
	{"I6", (*evidence).oneForm},
	{"I7", (*evidence).legalPath},
	{"I8", (*evidence).finishedIsFinal},
	{"I9", (*evidence).oneAnswer},
	{"I10", duringRun("I10")},
	{"I11", duringRun("I11")},
	{"I12", (*evidence).snapshotsAgree},
	{"I13", (*evidence).nothingLost},
	{"I15", (*evidence).noFailureStored},
	{"I16", (*evidence).rightEnd},
	{"I17", (*evidence).parkedForCause},
	{"I20", jobsAreCommitted(rideCharge, "receipt")},
	{"I22", (*evidence).nothingReaped},
	{"I23", duringRun("I23")},
	{"I27", (*evidence).sumsAgree},
}

// duringRun returns the check of an invariant that is checked only while a
// trial runs.
func duringRun(name string) func(*evidence) (bool, []string) {
	return func(e *evidence) (applies bool, violations []string) {
		applies = slices.ContainsFunc(e.notes, func(n note) bool { return n.invariant == name })
		return applies, e.noted(name)
	}
}

// noted returns the violations that were found while the trial ran.
func (e *evidence) noted(name string) []string {
	var violations []string
	for _, n := range e.notes {
		violations = appendIf(violations, n.invariant == name && n.violation != "", "%s", n.violation)
	}
	return violations
}

// appendIf appends a violation if wrong is true.
func appendIf(violations []string, wrong bool, format string, args ...any) []string {
	if !wrong {
		return violations
	}
	return append(violations, fmt.Sprintf(format, args...))
}

// terminals returns the terminal replies, in the order in which they ended.
func (e *evidence) terminals() []reply {
	var found []reply
	for _, r := range e.replies {
		if e.flow.final(r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b reply) int { return a.to - b.to })
	return found
}

// successful reports whether the key ended as a success.
func (e *evidence) successful() bool { return e.final.key().status == e.flow.done }

// oneCharge counts the charges at Stripe.
func (e *evidence) oneCharge() (bool, []string) {
	charges := 0
	for _, n := range e.fake.Charges() {
		charges += n
	}
	wrong := charges > 1 || len(e.succeeded) > 1
	return len(e.sends) > 0, appendIf(nil, wrong, "Stripe has %d charges in %d succeeded intents", charges, len(e.succeeded))
}

// successIsWhole checks what a success must have, here and at Stripe.
func (e *evidence) successIsWhole() (bool, []string) {
	if !e.successful() {
		return false, nil
	}
	s, d := e.final, e.final.ride()
	wrong := len(s.keys) != 1 || len(s.rides) != 1 || s.audited("ride.created") != 1 || len(s.jobs) != 1 || len(e.succeeded) != 1
	violations := appendIf(nil, wrong, "%d keys, %d rides, %d audit records, %d jobs, %d charges",
		len(s.keys), len(s.rides), s.audited("ride.created"), len(s.jobs), len(e.succeeded))
	for _, intent := range e.succeeded {
		same := intent.ID == d.intent && intent.ChargeID == d.charge && intent.Amount == d.amount && intent.Currency == d.currency &&
			intent.Customer == "cus_visa" && intent.Metadata["ride_id"] == d.id && intent.Metadata["account_id"] == e.account.AccountID
		violations = appendIf(violations, !same, "the ride has %+v, Stripe has %+v", d, intent)
	}
	return true, violations
}

// declineIsFree checks that a decline took no money.
func (e *evidence) declineIsFree() (bool, []string) {
	if e.final.key().status != http.StatusPaymentRequired {
		return false, nil
	}
	return true, appendIf(nil, len(e.succeeded) > 0 || e.final.ride().status != "declined" || len(e.final.jobs) > 0,
		"declined with %d charges, a ride that is %s and %d jobs", len(e.succeeded), e.final.ride().status, len(e.final.jobs))
}

// moneyIsTaken reports whether Stripe charged.
func (e *evidence) moneyIsTaken() bool { return len(e.succeeded) > 0 }

// notForgotten returns the check that money that moved is on a success, or was
// on a key that was parked or that waits. done is how such a key comes to rest.
func notForgotten(moved func(*evidence) bool, done end) func(*evidence) (bool, []string) {
	return func(e *evidence) (applies bool, violations []string) {
		if !moved(e) {
			return false, nil
		}
		rest := e.atRest.end()
		violations = appendIf(nil, !e.successful(), "%s, and the key ended as %s", done, e.final.end())
		parked := e.atRest.key().parked != ""
		return true, appendIf(violations, rest != done && rest != pending && !parked, "%s, and the key came to rest as %s", done, rest)
	}
}

// oneForm compares all sends, and counts those after the window.
func (e *evidence) oneForm() (bool, []string) {
	if len(e.sends) == 0 {
		return false, nil
	}
	var violations []string
	first := e.sends[0]
	for _, send := range e.sends {
		violations = appendIf(violations, send.Key != first.Key || send.Body != first.Body, "sent %s under %s, and %s under %s", first.Body, first.Key, send.Body, send.Key)
		violations = appendIf(violations, send.Params["metadata[operation]"] != send.Key, "the form does not name the key that it was sent under")
	}
	late := e.closedAt >= 0 && len(e.sends) > e.closedAt
	return true, appendIf(violations, late, "%d sends after the window", len(e.sends)-max(e.closedAt, 0))
}

// sumsAgree compares the sums of the charges, the rides and the receipts.
func (e *evidence) sumsAgree() (bool, []string) {
	var stripe, rides, receipts int64
	for _, intent := range e.succeeded {
		stripe += intent.Amount
	}
	for _, d := range e.final.rides {
		if d.status == "charged" {
			rides += d.amount
		}
	}
	for _, j := range e.final.jobs {
		receipts += j.amount
	}
	wrong := stripe != rides || rides != receipts
	return stripe+rides+receipts > 0, appendIf(nil, wrong, "Stripe charged %d, the rides say %d, the receipts %d", stripe, rides, receipts)
}
