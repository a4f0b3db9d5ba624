package crash

import (
	"slices"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// orderChecks are the checks of an order. Most are those of a hail.
var orderChecks = []check{
	{"I1", (*evidence).oneCharge},
	{"I2", (*evidence).orderIsWhole},
	{"I3", (*evidence).refusedOrderIsFree},
	{"I4", notForgotten((*evidence).moneyIsTaken, charged)},
	{"I5", duringRun("I5")},
	{"I6", (*evidence).oneFormEach},
	{"I7", (*evidence).legalPath},
	{"I8", (*evidence).finishedIsFinal},
	{"I9", (*evidence).oneAnswer},
	{"I10", duringRun("I10")},
	{"I11", duringRun("I11")},
	{"I12", (*evidence).orderSnapshotsAgree},
	{"I13", (*evidence).nothingLost},
	{"I15", (*evidence).noFailureStored},
	{"I16", (*evidence).rightEnd},
	{"I17", (*evidence).parkedForCause},
	{"I20", jobsAreCommitted(orderCharge, "warehouse", "notification")},
	{"I22", (*evidence).nothingReaped},
	{"I23", duringRun("I23")},
	{"I27", (*evidence).orderSumsAgree},
}

// order returns the one order of the trial, or the zero value if there is none.
func (s snapshot) order() orderRow {
	if orders := rowsOf[orderRow](s); len(orders) > 0 {
		return orders[0]
	}
	return orderRow{}
}

// orderIsWhole checks what a success must have: here, at Stripe, and in the
// inventory.
func (e *evidence) orderIsWhole() (bool, []string) {
	if !e.successful() {
		return false, nil
	}
	s, o, stock := e.final, e.final.order(), e.stock()
	wrong := len(s.keys) != 1 || len(s.own) != 1 || len(s.jobs) != 2 || len(e.succeeded) != 1
	violations := appendIf(nil, wrong, "%d keys, %d orders, %d jobs, %d charges", len(s.keys), len(s.own), len(s.jobs), len(e.succeeded))
	for _, intent := range e.succeeded {
		same := intent.ChargeID == o.charge && intent.Amount == o.amount && intent.Metadata["ride_id"] == o.id
		violations = appendIf(violations, !same || o.status != "paid", "the order is %+v, Stripe has %+v", o, intent)
	}
	wrong = stock.taken != int(o.quantity) || stock.held != 0 || stock.left != stockAtFirst-stock.taken
	return true, appendIf(violations, wrong, "%d ordered, and of the goods %d are left, %d held, %d taken", o.quantity, stock.left, stock.held, stock.taken)
}

// refusedOrderIsFree checks that an order that was refused took neither money
// nor goods, and told nobody.
func (e *evidence) refusedOrderIsFree() (bool, []string) {
	if !e.final.key().finished || e.successful() {
		return false, nil
	}
	o, stock := e.final.order(), e.stock()
	wrong := len(e.succeeded) > 0 || len(e.final.jobs) > 0 || o.status != "not_paid" && o.status != "out_of_stock"
	violations := appendIf(nil, wrong, "refused with %d charges, %d jobs, and the order is %s", len(e.succeeded), len(e.final.jobs), o.status)
	return true, appendIf(violations, stock.held+stock.taken > 0, "refused, and of the goods %d are held, %d taken", stock.held, stock.taken)
}

// oneFormEach compares the sends of each foreign key.
func (e *evidence) oneFormEach() (bool, []string) {
	var violations []string
	forms := map[string]string{}
	for _, send := range slices.Concat(e.sends, e.stock().sends) {
		first, sent := forms[send.Key]
		forms[send.Key] = send.Body
		violations = appendIf(violations, sent && first != send.Body, "sent %s and %s under %s", first, send.Body, send.Key)
	}
	calls := 0
	for key := range forms {
		if e.flow.past(phases.Finished, e.account.AccountID, e.key, key) {
			calls++
		}
	}
	return len(forms) > 0, appendIf(violations, calls != len(forms), "%d of %d foreign keys are none of the flow's", len(forms)-calls, len(forms))
}

// orderSnapshotsAgree checks that the rows of each snapshot agree.
func (e *evidence) orderSnapshotsAgree() (bool, []string) {
	var violations []string
	applies := false
	for _, s := range e.snapshots {
		if len(s.keys)+len(s.own)+len(s.jobs) > 0 {
			applies = true
			violations = append(violations, e.orderAgrees(s)...)
		}
	}
	return applies, violations
}

// orderAgrees checks one snapshot.
func (e *evidence) orderAgrees(s snapshot) []string {
	k, o := s.key(), s.order()
	begun := k.point != phases.Started
	violations := appendIf(nil, len(s.keys) != 1 || begun != (len(s.own) == 1), "%d keys and %d orders at %s", len(s.keys), len(s.own), k.point)
	decided := slices.Index(e.flow.points, k.point) >= slices.Index(e.flow.points, e.flow.called)
	violations = appendIf(violations, begun && decided == (o.status == "pending"), "the order is %s at %s", o.status, k.point)
	violations = appendIf(violations, (o.status == "paid") != (o.charge != ""), "the order is %s with charge %q", o.status, o.charge)
	done := k.finished && k.status == e.flow.done
	violations = appendIf(violations, done != (len(s.jobs) == 2), "%d jobs at %s %d", len(s.jobs), k.point, k.status)
	return append(violations, s.keyAgrees()...)
}

// orderSumsAgree compares the money and the goods here, at Stripe and in the
// inventory.
func (e *evidence) orderSumsAgree() (bool, []string) {
	var stripe, paid, told int64
	for _, intent := range e.succeeded {
		stripe += intent.Amount
	}
	if o := e.final.order(); o.status == "paid" {
		paid = o.amount
	}
	for _, j := range e.final.jobs {
		told += j.amount
	}
	wrong := stripe != paid || told != 2*paid || int64(e.stock().taken)*unitPrice != paid
	return stripe+paid+told > 0, appendIf(nil, wrong, "Stripe charged %d, the order says %d, its two jobs %d, and %d goods were taken", stripe, paid, told, e.stock().taken)
}
