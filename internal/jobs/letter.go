package jobs

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"strings"
	texttemplate "text/template"
	"time"
)

//go:embed receipts/receipt.html receipts/receipt.txt
var receiptFiles embed.FS

// The two forms of a receipt. HTML in mails has rules of its own: clients drop
// style sheets, scripts and what lies elsewhere, so there are only tables with
// inline styles, and no images.
//
//nolint:gochecknoglobals // parsed once, and nothing writes to them
var (
	receiptHTML = template.Must(template.ParseFS(receiptFiles, "receipts/receipt.html"))
	receiptText = texttemplate.Must(texttemplate.ParseFS(receiptFiles, "receipts/receipt.txt"))
)

// A letter is what the templates show.
type letter struct {
	Subject string
	Title   string
	// Amount is what the receipt is about; "" if no money was moved.
	Amount string
	// Says is a sentence or two below the title.
	Says  string
	Lines []line
	Test  bool // the account is a test account
	// Footer says why there is this e-mail.
	Footer string
}

// message returns the letter as an e-mail, with the text in both forms.
func (l letter) message(to, id string, at time.Time) (message, error) {
	var text, html strings.Builder
	if err := errors.Join(receiptText.Execute(&text, l), receiptHTML.Execute(&html, l)); err != nil {
		return message{}, fmt.Errorf("writing an e-mail: %w", err)
	}
	return message{to: to, subject: l.Subject, text: text.String(), html: html.String(), id: id, date: at.UTC()}, nil
}

// A line is a row of the receipt's table.
type line struct{ Name, Value string }

// write writes the receipt of a ride.
func write(job delivery[Receipt], r ride) (message, error) {
	l := letter{
		Test:   !r.livemode,
		Footer: "Rocket Rides sent this receipt because a ride of your account has ended.",
		Lines: []line{
			{"Date", date(r.createdAt)},
			{"From", point(r.originLat, r.originLon)},
			{"To", point(r.targetLat, r.targetLon)},
			{"Ride", job.Job.RideID},
		},
	}
	fare := money(job.Job.Amount, job.Job.Currency)
	switch job.Job.Event {
	case EventCharged:
		l.Subject, l.Title, l.Amount = "Your receipt: "+fare, "Thanks for riding with us", fare
		l.Says = "We charged your card for this ride."
		l.Lines = append(l.Lines, line{"Payment", job.Job.ChargeID})
	case EventCanceled:
		l.Subject, l.Title, l.Amount = "Your ride is canceled: "+fare+" refunded", "Your ride is canceled", fare
		l.Says = "We refunded all of the fare. Most banks show a refund after five to ten days."
		l.Lines = append(l.Lines, line{"Payment", job.Job.ChargeID}, line{"Refund", r.refundID})
	case EventDeclined:
		l.Subject, l.Title = "Your ride was declined: nothing was charged", "Your ride was declined"
		l.Says = r.failure // it says as well that nothing was charged
	default:
		return message{}, fmt.Errorf("a receipt of %q is unknown", job.Job.Event)
	}
	return l.message(r.email, "receipt."+string(job.Job.Event)+"."+job.Job.RideID, job.StagedAt)
}

// A ride is what a receipt needs to know of a ride and its account.
type ride struct {
	email, status                              string
	livemode                                   bool
	createdAt                                  time.Time
	originLat, originLon, targetLat, targetLon float64
	failure, refundID                          string
}

func (c *Client) readRide(ctx context.Context, account, id string) (ride, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var r ride
	err := c.config.Pool.QueryRow(ctx, `
		SELECT a.email, r.status, a.livemode, r.created_at, r.origin_lat, r.origin_lon, r.target_lat, r.target_lon,
		       coalesce(r.failure ->> 'detail', ''), coalesce(r.refund_id, '')
		FROM rides r JOIN accounts a ON a.id = r.account_id
		WHERE r.account_id = $1 AND r.id = $2`,
		account, id).Scan(&r.email, &r.status, &r.livemode, &r.createdAt, &r.originLat, &r.originLon, &r.targetLat, &r.targetLon,
		&r.failure, &r.refundID)
	if err != nil {
		return ride{}, fmt.Errorf("reading the ride of the receipt: %w", err)
	}
	return r, nil
}

// date returns a time as people write it, to the minute.
func date(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// money returns an amount in the smallest unit of a currency as people write
// it. All fares are in a currency with hundredths.
func money(amount int64, currency string) string {
	text := fmt.Sprintf("%d.%02d", amount/100, amount%100)
	if currency == "usd" {
		return "$" + text
	}
	return text + " " + strings.ToUpper(currency)
}

// point returns a place as people write it, to about ten metres.
func point(lat, lon float64) string {
	side := func(degrees float64, positive, negative string) string {
		if degrees < 0 {
			return fmt.Sprintf("%.4f° %s", -degrees, negative)
		}
		return fmt.Sprintf("%.4f° %s", degrees, positive)
	}
	return side(lat, "N", "S") + ", " + side(lon, "E", "W")
}
