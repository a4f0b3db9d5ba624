package jobs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/rocketrides/rocketrides/internal/inbox"
)

// addRide adds an account and a ride with a status, and stages its receipt.
func (b *bundle) addRide(t *testing.T, id, status string, event Event) {
	t.Helper()
	b.exec(t, `INSERT INTO accounts (id, email, stripe_customer, payment_method, livemode, callback_secret)
		VALUES ('acct_1', 'ann@example.com', 'cus_1', 'pm_1', false, 's') ON CONFLICT DO NOTHING`)
	var charge, intent, failure, refund, refundStatus, amount any
	switch status {
	case "canceled":
		refund, refundStatus, amount = "re_"+id, "succeeded", 2350
		fallthrough
	case "charged":
		charge, intent = "ch_"+id, "pi_"+id
	case "declined":
		failure = `{"code": "card_declined", "detail": "The card of <Ann & Co> was declined and nothing was charged."}`
	}
	b.exec(t, `INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount,
		  fare_currency, charge_id, payment_intent_id, failure, refund_id, refund_status, refund_amount, created_at)
		VALUES ('acct_1', $1, $1, $2, 37.7749, -122.4194, -37.8044, 122.2712, 2350, 'usd', $3, $4, $5, $6, $7, $8, '2026-11-26 09:05:00Z')`,
		id, status, charge, intent, failure, refund, refundStatus, amount)
	args, err := json.Marshal(Receipt{Event: event, RideID: id, ChargeID: "ch_" + id, Amount: 2350, Currency: "usd"})
	if err != nil {
		t.Fatal(err)
	}
	b.exec(t, `INSERT INTO staged_jobs (account_id, id, key, kind, args, created_at)
		VALUES ('acct_1', 'job_' || $1, $1, 'receipt', $2, '2026-11-26 09:06:00Z')`, id, string(args))
}

// One mail for each ending, in both forms, with everything that the reader may
// want to know, and nothing that isn't so.
func TestReceiptsTellHowARideEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  string
		event   Event
		subject string
		says    []string
		not     string
	}{
		{"charged", EventCharged, "Your receipt: $23.50", []string{"$23.50", "We charged your card", "ch_r"}, "refund"},
		{"charged", "", "Your receipt: $23.50", []string{"$23.50", "ch_r"}, "refund"}, // of the release before
		{"canceled", EventCharged, "Your receipt: $23.50", []string{"$23.50"}, "refund"},
		{"canceled", EventCanceled, "Your ride is canceled: $23.50 refunded", []string{"$23.50", "ch_r", "re_r"}, "We charged"},
		{"declined", EventDeclined, "Your ride was declined: nothing was charged", []string{"The card of <Ann & Co> was declined"}, "$"},
	} {
		t.Run(fmt.Sprint(c.event, " of a ride that is ", c.status), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.addRide(t, "r", c.status, c.event)
			kept := new(inbox.Inbox)
			b.sendTo(t, kept)
			messages := kept.Messages()
			if len(messages) != 1 {
				t.Fatalf("there are %d messages", len(messages))
			}
			m := messages[0]
			event := c.event
			if event == "" {
				event = EventCharged
			}
			if want := "receipt." + string(event) + ".r@example.com"; m.MessageID != want || m.Subject != c.subject || m.To != "ann@example.com" {
				t.Errorf("the message is %q to %s, %q", m.Subject, m.To, m.MessageID)
			}
			for form, got := range map[string]string{"text": m.Text, "html": textOf(t, m.HTML)} {
				for _, want := range append(c.says, "26 November 2026, 09:05 UTC", "37.7749° N, 122.4194° W", "37.8044° S, 122.2712° E", "test account") {
					if !strings.Contains(got, want) {
						t.Errorf("the %s lacks %q: %s", form, want, got)
					}
				}
				if strings.Contains(strings.ReplaceAll(got, "\r", ""), c.not) {
					t.Errorf("the %s has %q: %s", form, c.not, got)
				}
			}
		})
	}
}

// textOf parses HTML, checks that it is well formed and needs nothing that mail
// clients drop, and returns its text.
func textOf(t *testing.T, source string) string {
	t.Helper()
	var text strings.Builder
	var open []string
	for tokens := html.NewTokenizer(strings.NewReader(source)); ; {
		switch token := tokens.Next(); token {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("not closed: %q", open)
			}
			return text.String()
		case html.TextToken:
			text.WriteString(tokens.Token().Data)
		case html.StartTagToken:
			switch tag := tokens.Token(); tag.Data {
			case "meta": // has no end
			case "script", "style", "link", "img", "iframe":
				t.Errorf("mail clients drop %s", tag)
			default:
				open = append(open, tag.Data)
				for _, a := range tag.Attr {
					if a.Key == "class" || strings.Contains(a.Val, "url(") || strings.Contains(a.Val, "://") {
						t.Errorf("mail clients drop %s", tag)
					}
				}
			}
		case html.EndTagToken:
			tag := tokens.Token().Data
			if len(open) == 0 || open[len(open)-1] != tag {
				t.Fatalf("</%s> ends %q", tag, open)
			}
			open = open[:len(open)-1]
		default:
		}
	}
}

// A receipt that isn't true is not sent, whatever staged it.
func TestAReceiptThatIsNotTrueIsDead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for status, event := range map[string]Event{"declined": EventCharged, "charged": EventCanceled, "canceled": EventDeclined, "pending": EventCharged} {
		b.addRide(t, status, status, event)
	}
	kept := new(inbox.Inbox)
	b.sendTo(t, kept)
	if got := kept.Messages(); len(got) != 0 {
		t.Errorf("sent were %+v", got)
	}
	if n := value[int](t, b, `SELECT count(*) FROM river.river_job WHERE state = 'cancelled'`); n != 4 {
		t.Errorf("%d jobs are dead, want 4", n)
	}
}

// Without a mail server a receipt is logged, and done.
func TestWithoutAMailServerReceiptsAreLogged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addRide(t, "r", "charged", EventCharged)
	var log strings.Builder
	c, err := NewClient(b.config(t, nil, logTo(&log)))
	if err != nil {
		t.Fatal(err)
	}
	counts, err := c.Once(t.Context())
	if err != nil || counts.Delivered != 1 {
		t.Errorf("it did %+v (%v)", counts, err)
	}
	if got := log.String(); !strings.Contains(got, "isn't sent") || !strings.Contains(got, "ride=r") || strings.Contains(got, "ann@example.com") {
		t.Errorf("the log has %s", got)
	}
}
