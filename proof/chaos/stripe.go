package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/pause"
)

const (
	stripeKey = "sk_test_chaos"
	// controlTimeout is the time-out of a request to the fake's controls. Its
	// ledger is long at the end.
	controlTimeout = time.Minute
)

// A stripe is the connection of chaos itself to the fake Stripe, past the
// links.
type stripe struct {
	url    string
	client *http.Client
}

func newStripe(address string) *stripe {
	return &stripe{url: "http://" + address, client: &http.Client{Timeout: controlTimeout, Transport: &http.Transport{}}}
}

// call makes a request, and decodes the answer into into unless that is nil.
func (s *stripe) call(ctx context.Context, method, path, contentType, body string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.SetBasicAuth(stripeKey, "")
	if body != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the fake Stripe: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("asking the fake Stripe for %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the fake Stripe answered %s to %s %s: %s", response.Status, method, path, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// newCustomer makes a customer and returns its id.
func (s *stripe) newCustomer(ctx context.Context, email string) (string, error) {
	var made struct {
		ID string `json:"id"`
	}
	err := s.call(ctx, http.MethodPost, "/v1/customers", "application/x-www-form-urlencoded", url.Values{"email": {email}}.Encode(), &made)
	if err == nil && made.ID == "" {
		err = errors.New("the fake Stripe made a customer without an id")
	}
	return made.ID, err
}

// script scripts a fault of the schedule, by its name.
func (s *stripe) script(ctx context.Context, name string, times int) error {
	for _, f := range stripeFaults() {
		if f.name == name {
			f.fault.Times = times
			// The fake forgets its rules when it is killed.
			return errors.Join(s.tellAs(ctx, eventRules()), s.fault(ctx, f.fault))
		}
	}
	return fmt.Errorf("there is no Stripe fault %q", name)
}

// fault scripts a fault.
func (s *stripe) fault(ctx context.Context, fault fakestripe.Fault) error {
	script, err := json.Marshal(fault)
	if err != nil {
		return fmt.Errorf("encoding a fault: %w", err)
	}
	return s.again(ctx, func() error {
		return s.call(ctx, http.MethodPost, "/_fake/faults", "application/json", string(script), nil)
	})
}

// clear removes all faults.
func (s *stripe) clear(ctx context.Context) error {
	return s.again(ctx, func() error { return s.call(ctx, http.MethodDelete, "/_fake/faults", "", "", nil) })
}

// again tries a few times, because the fake may be starting again just now.
func (s *stripe) again(ctx context.Context, try func() error) error {
	var err error
	for range 20 {
		if err = try(); err == nil || ctx.Err() != nil {
			return err
		}
		_ = pause.For(ctx, 200*time.Millisecond)
	}
	return err
}

// ledger returns every write that reached the fake, oldest first.
func (s *stripe) ledger(ctx context.Context) ([]fakestripe.Send, error) {
	var sends []fakestripe.Send
	err := s.call(ctx, http.MethodGet, "/_fake/ledger", "", "", &sends)
	return sends, err
}

// An intent is a payment intent at Stripe.
type intent struct {
	ID             string            `json:"id"`
	Status         string            `json:"status"`
	Amount         int64             `json:"amount"`
	AmountReceived int64             `json:"amount_received"`
	Created        int64             `json:"created"` // whole seconds of Unix time
	Customer       string            `json:"customer"`
	LatestCharge   string            `json:"latest_charge"`
	Metadata       map[string]string `json:"metadata"`
}

// paid reports whether money was taken.
func (i intent) paid() bool { return i.Status == "succeeded" || i.AmountReceived > 0 }

// A refund is a refund at Stripe.
type refund struct {
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Amount   int64             `json:"amount"`
	Intent   string            `json:"payment_intent"`
	Metadata map[string]string `json:"metadata"`
}

// counts reports whether the money is back or on its way.
func (r refund) counts() bool { return r.Status != "failed" && r.Status != "canceled" }

func (i intent) id() string { return i.ID }
func (r refund) id() string { return r.ID }

// listed returns all objects of a list.
func listed[T interface{ id() string }](ctx context.Context, s *stripe, path string) ([]T, error) {
	var all []T
	for after := ""; ; {
		var page struct {
			Data    []T  `json:"data"`
			HasMore bool `json:"has_more"`
		}
		query := "?limit=100"
		if after != "" {
			query += "&starting_after=" + after
		}
		if err := s.call(ctx, http.MethodGet, path+query, "", "", &page); err != nil {
			return nil, err
		}
		all = append(all, page.Data...)
		if !page.HasMore || len(page.Data) == 0 {
			return all, nil
		}
		after = page.Data[len(page.Data)-1].id()
	}
}
