package order

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A StockForm is what the inventory is asked for, as it is sent.
type StockForm string

// newStockForm returns the form that asks for an action. The same order makes
// the same bytes.
func newStockForm(action string, order Order) StockForm {
	return StockForm(url.Values{
		"action": {action}, "order": {order.ID}, "item": {order.Item}, "quantity": {strconv.FormatInt(order.Quantity, 10)},
	}.Encode())
}

// action returns what the form asks for.
func (f StockForm) action() string {
	values, _ := url.ParseQuery(string(f)) // newStockForm made it
	return values.Get("action")
}

// Stock is what the inventory answered.
type Stock struct {
	Status    string `json:"status"`     // reserved, out_of_stock, taken, given_back
	UnitPrice int64  `json:"unit_price"` // in cents
}

// Inventory is the client of an inventory that executes an operation once per
// Idempotency-Key, and shows it under its key.
type Inventory struct {
	URL  string // of its operations
	HTTP *http.Client
}

// Send asks for what is frozen. A 503 of this inventory means that it did
// nothing; after anything else that isn't an answer nobody knows.
func (i Inventory) Send(ctx context.Context, sent phases.Sent[StockForm]) (Stock, error) {
	return i.call(ctx, http.MethodPost, i.URL, sent.Key, string(sent.Form))
}

// Find looks the operation up.
func (i Inventory) Find(ctx context.Context, sent phases.Sent[StockForm]) (Stock, error) {
	return i.call(ctx, http.MethodGet, i.URL+"/"+sent.Key, "", "")
}

func (i Inventory) call(ctx context.Context, method, url, key, form string) (Stock, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form))
	if err != nil {
		return Stock{}, &phases.CallError{Class: phases.Transient, Err: err}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Idempotency-Key", key)
	response, err := i.HTTP.Do(request)
	if err != nil {
		return Stock{}, fmt.Errorf("asking the inventory: %w", err) // Unknown
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusOK:
		var stock Stock
		err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, 1<<16)).Decode(&stock)
		return stock, err // Unknown if the answer is cut off
	case method == http.MethodGet && response.StatusCode == http.StatusNotFound:
		return Stock{}, phases.ErrNothingFound
	case response.StatusCode == http.StatusServiceUnavailable:
		return Stock{}, &phases.CallError{Class: phases.Transient, Err: errors.New("the inventory is closed")}
	default:
		return Stock{}, fmt.Errorf("the inventory answered %s", response.Status) // Unknown
	}
}
