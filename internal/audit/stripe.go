package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/payments"
)

// The checks that compare with Stripe.
const (
	chargedOnce     = "charged-once"
	moneyHasARide   = "money-has-a-ride"
	rideHasItsMoney = "ride-has-its-money"
)

// clockMargin is how much Stripe's clock and the database's may differ.
const clockMargin = time.Hour

// ledger is what is remembered of Stripe's list while it is read.
type ledger struct {
	// charged maps an operation to the intent that charged it and was not
	// refunded in full.
	charged map[string]string
	// succeeded holds the intents that charged a card. A ride that is charged
	// needs one: that an intent exists says nothing about money.
	succeeded map[string]bool

	twice, loose, wrong []Finding
}

// compareWithStripe reads Stripe's payment intents and the rides that they
// should have paid.
func (a Auditor) compareWithStripe(ctx context.Context, report *Report) error {
	began := time.Now()
	var start time.Time
	if err := a.Pool.QueryRow(ctx, `SELECT now()`).Scan(&start); err != nil {
		return fmt.Errorf("asking for the time: %w", err)
	}
	l := ledger{charged: map[string]string{}, succeeded: map[string]bool{}}
	since := start.Add(-a.StripeSince)
	err := a.Stripe.Intents(ctx, since.Add(-clockMargin), func(page []payments.Intent) error {
		report.Intents += len(page)
		return a.comparePage(ctx, &l, page)
	})
	if err != nil {
		return fmt.Errorf("listing Stripe's payment intents: %w", err)
	}
	if err := a.compareRides(ctx, &l, since, start); err != nil {
		return err
	}
	a.add(report, chargedOnce, "No request has two charges at Stripe that were not refunded in full.", began, l.twice)
	a.add(report, moneyHasARide, "A charge at Stripe is on its ride, or on a key that is still unfinished.", began, l.loose)
	a.add(report, rideHasItsMoney, "A charged ride's charge stands at Stripe, with the same amount, and was not given back.", began, l.wrong)
	return nil
}

// A standing is what the database has of one operation of Stripe's.
type standing struct {
	key, ride, status, intent, charge, currency string
	amount                                      int64
	open                                        bool // the key is unfinished
}

// comparePage compares one page with the rides as they are now, after the page
// was read: what Stripe showed was recorded by then, or its key is unfinished.
func (a Auditor) comparePage(ctx context.Context, l *ledger, page []payments.Intent) error {
	found, err := a.standings(ctx, page)
	if err != nil {
		return err
	}
	for _, intent := range page {
		if !intent.Succeeded {
			continue
		}
		l.succeeded[intent.ID] = true
		if intent.Operation == "" {
			continue
		}
		finding := Finding{Account: intent.Account, Ride: intent.Ride}
		s, known := found[intent.Account+"/"+intent.Ride]
		finding.Key = s.key
		if !intent.RefundedInFull {
			l.once(finding, intent)
		}
		l.compare(finding, intent, s, known)
	}
	return nil
}

func (l *ledger) once(f Finding, intent payments.Intent) {
	other, twice := l.charged[intent.Operation]
	if twice && other != intent.ID {
		f.Check, f.Detail = chargedOnce, fmt.Sprintf("%s and %s both charged the card", other, intent.ID)
		l.twice = append(l.twice, f)
	}
	l.charged[intent.Operation] = intent.ID
}

// compare compares a charge with its ride. Only a refund in full excuses a
// charge that is on no ride; any refund is wrong where the ride still counts as
// charged.
func (l *ledger) compare(f Finding, intent payments.Intent, s standing, known bool) {
	paid := s.status == "charged" || s.status == "canceled"
	switch {
	case intent.RefundedInFull && s.status != "charged", s.open && !paid:
		return
	case intent.Refunded && s.status == "charged":
		f.Check, f.Detail = rideHasItsMoney, intent.ID+" was refunded, and the ride is still charged"
		l.wrong = append(l.wrong, f)
	case !known:
		f.Check, f.Detail = moneyHasARide, intent.ID+" charged the card, and there is no ride"
		l.loose = append(l.loose, f)
	case !paid:
		f.Check, f.Detail = moneyHasARide, fmt.Sprintf("%s charged the card, and the ride is %s", intent.ID, s.status)
		l.loose = append(l.loose, f)
	case s.intent != intent.ID || s.charge != intent.Charge:
		f.Check, f.Detail = moneyHasARide, fmt.Sprintf("%s charged the card, and the ride has %s", intent.ID, s.intent)
		l.loose = append(l.loose, f)
	case s.amount != intent.Amount || s.currency != intent.Currency:
		f.Check = rideHasItsMoney
		f.Detail = fmt.Sprintf("%s took %d %s, and the fare is %d %s", intent.ID, intent.Amount, intent.Currency, s.amount, s.currency)
		l.wrong = append(l.wrong, f)
	}
}

// standings reads the rides that a page names, by "account/ride".
func (a Auditor) standings(ctx context.Context, page []payments.Intent) (map[string]standing, error) {
	accounts, ids := make([]string, 0, len(page)), make([]string, 0, len(page))
	for _, intent := range page {
		accounts, ids = append(accounts, intent.Account), append(ids, intent.Ride)
	}
	rows, err := a.Pool.Query(ctx, `
		SELECT r.account_id, r.id, r.key, r.status, coalesce(r.payment_intent_id, ''), coalesce(r.charge_id, ''),
		       r.fare_currency, r.fare_amount, coalesce(k.finished_at IS NULL, false)
		FROM unnest($1::text[], $2::text[]) AS wanted (account_id, id)
		JOIN rides r USING (account_id, id)
		LEFT JOIN idempotency_keys k ON k.account_id = r.account_id AND k.key = r.key AND k.reaped_at IS NULL`,
		accounts, ids)
	if err != nil {
		return nil, fmt.Errorf("reading rides: %w", err)
	}
	found := map[string]standing{}
	var account string
	var s standing
	_, err = pgx.ForEachRow(rows, []any{&account, &s.ride, &s.key, &s.status, &s.intent, &s.charge, &s.currency, &s.amount, &s.open},
		func() error {
			found[account+"/"+s.ride] = s
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("reading rides: %w", err)
	}
	return found, nil
}

// compareRides looks for rides whose charge Stripe's list lacks. Only those
// count whose key was finished before the list was begun, and that were charged
// in the mode of our Stripe key: no list shows the other mode's intents.
func (a Auditor) compareRides(ctx context.Context, l *ledger, since, start time.Time) error {
	rows, err := a.Pool.Query(ctx, `
		SELECT r.account_id, r.key, r.id, r.payment_intent_id
		FROM rides r JOIN idempotency_keys k USING (account_id, key)
		WHERE r.status = 'charged' AND r.created_at >= $1 AND k.finished_at < $2 AND k.realm = $3`,
		since, start, a.Stripe.Realm())
	if err != nil {
		return fmt.Errorf("reading charged rides: %w", err)
	}
	f := Finding{Check: rideHasItsMoney}
	var intent string
	_, err = pgx.ForEachRow(rows, []any{&f.Account, &f.Key, &f.Ride, &intent}, func() error {
		if !l.succeeded[intent] {
			f.Detail = "the ride is charged, and Stripe's list has no succeeded intent " + intent
			l.wrong = append(l.wrong, f)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading charged rides: %w", err)
	}
	return nil
}

// isDataException tells that a query met data that it can't read (SQLSTATE
// class 22).
func isDataException(err error) bool {
	problem, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(problem.Code, "22")
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
