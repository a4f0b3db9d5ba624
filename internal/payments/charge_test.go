package payments

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestFindChargeListsTheCustomersSince30DaysBeforeTheFirstSend(t *testing.T) {
	t.Parallel()
	other := intentWith(object{"id": "pi_7", "metadata": foreignMetadata()})
	another := intentWith(object{"id": "pi_8", "metadata": foreignMetadata()})
	server := newStripeServer(t, map[string][]http.HandlerFunc{
		routeList: {answerPage(true, other), answerPage(true, another), answerPage(false, intentWith(nil))},
		routeRead: {answerOK(expandedWith(nil, nil))},
	})
	client, _ := server.client(t, nil)
	charge, err := client.FindCharge(t.Context(), firstSend(), customers("cus_8", "cus_1", "cus_9", "cus_8"))
	if err != nil || charge.Status != ChargeSucceeded {
		t.Fatalf("got %+v, %v, want the charge on the third page", charge, err)
	}
	since := strconv.FormatInt(firstSend().FirstSentAt.Add(-30*24*time.Hour).Unix(), 10)
	pages := []struct{ customer, after string }{{"cus_1", ""}, {"cus_1", "pi_7"}, {"cus_1", "pi_8"}, {"cus_8", ""}, {"cus_9", ""}}
	for i, page := range pages {
		want := url.Values{"customer": {page.customer}, "created[gte]": {since}, "limit": {"100"}}
		if page.after != "" {
			want.Set("starting_after", page.after)
		}
		wantEqual(t, "query", want, query(t, server.received(routeList)[i]))
	}
	wantEqual(t, "pages", len(pages), len(server.received(routeList)))
	read := server.received(routeRead)[0]
	wantEqual(t, "path", "/v1/payment_intents/pi_1", read.path)
	wantEqual(t, "query", url.Values{"expand[]": {"latest_charge"}}, query(t, read))
}

// A list that goes in circles would be read until the deadline, and every page
// counts towards Stripe's rate limit.
func TestFindChargeGivesUpOnAListWithoutProgress(t *testing.T) {
	t.Parallel()
	other := intentWith(object{"id": "pi_7", "metadata": foreignMetadata()})
	for name, c := range map[string]struct {
		pages []http.HandlerFunc
		reads int
	}{
		"the first page again":  {[]http.HandlerFunc{answerPage(true, other)}, 2},
		"an empty first page":   {[]http.HandlerFunc{answerPage(true)}, 1},
		"an empty second page":  {[]http.HandlerFunc{answerPage(true, other), answerPage(true)}, 2},
		"a broken second page":  {[]http.HandlerFunc{answerPage(true, other), answerWith(200, "{}")}, 2},
		"a refused second page": {[]http.HandlerFunc{answerPage(true, other), answerError(429, "invalid_request_error", "", nil)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, map[string][]http.HandlerFunc{routeList: c.pages})
			client, _ := server.client(t, nil)
			_, err := client.FindCharge(t.Context(), firstSend(), customers())
			var failed *phases.CallError
			if !errors.As(err, &failed) || failed.Class != phases.Unknown {
				t.Errorf("got %v, want an unknown result", err)
			}
			wantEqual(t, "pages read", c.reads, len(server.received(routeList)))
		})
	}
}

func query(t *testing.T, request receivedRequest) url.Values {
	t.Helper()
	values, err := url.ParseQuery(request.query)
	if err != nil {
		t.Fatalf("reading the query %q: %v", request.query, err)
	}
	return values
}

// A second attempt to cancel isn't answered like the first, and neither can be
// taken for the charge.
func TestCancelHasItsOwnIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := listCase("", "", true, answerOK(failedIntent(nil)))
	c.answers[routeCancel] = []http.HandlerFunc{answerCut("", hangUp), answerOK(failedIntent(object{"status": "canceled"}))}
	server := newStripeServer(t, c.answers)
	client, _ := server.client(t, nil)
	sent := firstSend()
	sent.WindowOver = true
	if charge, err := client.FindCharge(t.Context(), sent, customers()); err == nil {
		t.Fatalf("got %+v, want the broken connection", charge)
	}
	if charge, err := client.FindCharge(t.Context(), sent, customers()); err != nil || charge.Status != ChargeDeclined {
		t.Fatalf("got %+v, %v, want it declined", charge, err)
	}
	used := map[string]bool{"": true, sent.Key: true}
	for _, request := range server.received(routeCancel) {
		key := request.header.Get("Idempotency-Key")
		if used[key] {
			t.Errorf("the key %q is used again", key)
		}
		used[key] = true
		wantEqual(t, "path", "/v1/payment_intents/pi_1/cancel", request.path)
		wantEqual(t, "body", "cancellation_reason=abandoned", request.body)
	}
	wantEqual(t, "cancels", 2, len(server.received(routeCancel)))
}
