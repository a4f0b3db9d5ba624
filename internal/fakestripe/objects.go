package fakestripe

import (
	"crypto/rand"
	"encoding/json"
)

// The statuses of a payment intent that a payment by card goes through
// (https://docs.stripe.com/payments/paymentintents/lifecycle).
const (
	requiresPaymentMethod = "requires_payment_method"
	requiresConfirmation  = "requires_confirmation"
	requiresAction        = "requires_action"
	processing            = "processing"
	succeeded             = "succeeded"
	canceled              = "canceled"
)

// The statuses of a charge; the third is succeeded.
const (
	pending = "pending"
	failed  = "failed"
)

// newID returns a new id with a prefix. Ids are random, so that none is used
// again after a reset or a torn journal.
func newID(prefix string) string { return prefix + "_" + rand.Text() }

// optional is a string that Stripe shows as null if it is empty.
type optional string

// MarshalJSON returns null for the empty string.
func (o optional) MarshalJSON() ([]byte, error) {
	if o == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(o))
}

// ref is a field that shows the id of another object, or that object if the
// request expands the field.
type ref struct {
	id     string
	object any
}

// MarshalJSON returns the object if there is one, else the id, else null.
func (r ref) MarshalJSON() ([]byte, error) {
	if r.object != nil {
		return json.Marshal(r.object)
	}
	return optional(r.id).MarshalJSON()
}

// UnmarshalJSON reads an id; no object is expanded in the journal.
func (r *ref) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &r.id) }

// What follows are Stripe's objects, with the names and in the order of its
// documentation. An object in the state is never changed, only replaced, so a
// pointer to one may be kept.

type customer struct {
	ID          string            `json:"id"`
	Object      string            `json:"object"`
	Balance     int64             `json:"balance"`
	Created     int64             `json:"created"`
	Deleted     bool              `json:"deleted,omitempty"`
	Description optional          `json:"description"`
	Email       optional          `json:"email"`
	Livemode    bool              `json:"livemode"`
	Metadata    map[string]string `json:"metadata"`
	Name        optional          `json:"name"`
}

// deletedCustomer is what Stripe still shows of a customer that was deleted.
type deletedCustomer struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

// account is what the fake shows of a Stripe account.
type account struct {
	ID               string `json:"id"`
	Object           string `json:"object"`
	ChargesEnabled   bool   `json:"charges_enabled"`
	Country          string `json:"country"`
	DefaultCurrency  string `json:"default_currency"`
	DetailsSubmitted bool   `json:"details_submitted"`
	PayoutsEnabled   bool   `json:"payouts_enabled"`
	Type             string `json:"type"`
}

type automaticMethods struct {
	AllowRedirects string `json:"allow_redirects"`
	Enabled        bool   `json:"enabled"`
}

type nextAction struct {
	Type         string            `json:"type"`
	UseStripeSDK map[string]string `json:"use_stripe_sdk"`
}

type paymentIntent struct {
	ID                      string            `json:"id"`
	Object                  string            `json:"object"`
	Amount                  int64             `json:"amount"`
	AmountCapturable        int64             `json:"amount_capturable"`
	AmountReceived          int64             `json:"amount_received"`
	AutomaticPaymentMethods *automaticMethods `json:"automatic_payment_methods"`
	CanceledAt              *int64            `json:"canceled_at"`
	CancellationReason      optional          `json:"cancellation_reason"`
	CaptureMethod           string            `json:"capture_method"`
	ClientSecret            string            `json:"client_secret"`
	ConfirmationMethod      string            `json:"confirmation_method"`
	Created                 int64             `json:"created"`
	Currency                string            `json:"currency"`
	Customer                ref               `json:"customer"`
	Description             optional          `json:"description"`
	LastPaymentError        *failure          `json:"last_payment_error"`
	LatestCharge            ref               `json:"latest_charge"`
	Livemode                bool              `json:"livemode"`
	Metadata                map[string]string `json:"metadata"`
	NextAction              *nextAction       `json:"next_action"`
	PaymentMethod           ref               `json:"payment_method"`
	PaymentMethodTypes      []string          `json:"payment_method_types"`
	Status                  string            `json:"status"`
}

type outcome struct {
	NetworkStatus string   `json:"network_status"`
	Reason        optional `json:"reason"`
	RiskLevel     string   `json:"risk_level"`
	SellerMessage string   `json:"seller_message"`
	Type          string   `json:"type"`
}

type cardShape struct {
	Brand    string `json:"brand"`
	Country  string `json:"country"`
	ExpMonth int    `json:"exp_month"`
	ExpYear  int    `json:"exp_year"`
	Funding  string `json:"funding"`
	Last4    string `json:"last4"`
}

type methodDetails struct {
	Card cardShape `json:"card"`
	Type string    `json:"type"`
}

type charge struct {
	ID                   string            `json:"id"`
	Object               string            `json:"object"`
	Amount               int64             `json:"amount"`
	AmountCaptured       int64             `json:"amount_captured"`
	AmountRefunded       int64             `json:"amount_refunded"`
	Captured             bool              `json:"captured"`
	Created              int64             `json:"created"`
	Currency             string            `json:"currency"`
	Customer             ref               `json:"customer"`
	Description          optional          `json:"description"`
	Disputed             bool              `json:"disputed"`
	FailureCode          optional          `json:"failure_code"`
	FailureMessage       optional          `json:"failure_message"`
	Livemode             bool              `json:"livemode"`
	Metadata             map[string]string `json:"metadata"`
	Outcome              *outcome          `json:"outcome"`
	Paid                 bool              `json:"paid"`
	PaymentIntent        ref               `json:"payment_intent"`
	PaymentMethod        string            `json:"payment_method"`
	PaymentMethodDetails methodDetails     `json:"payment_method_details"`
	Refunded             bool              `json:"refunded"`
	Status               string            `json:"status"`
}

type refund struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"`
	Amount        int64             `json:"amount"`
	Charge        ref               `json:"charge"`
	Created       int64             `json:"created"`
	Currency      string            `json:"currency"`
	FailureReason optional          `json:"failure_reason,omitempty"`
	Metadata      map[string]string `json:"metadata"`
	PaymentIntent ref               `json:"payment_intent"`
	Reason        optional          `json:"reason"`
	Status        string            `json:"status"`
}

type dispute struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"`
	Amount             int64             `json:"amount"`
	Charge             ref               `json:"charge"`
	Created            int64             `json:"created"`
	Currency           string            `json:"currency"`
	IsChargeRefundable bool              `json:"is_charge_refundable"`
	Livemode           bool              `json:"livemode"`
	Metadata           map[string]string `json:"metadata"`
	PaymentIntent      ref               `json:"payment_intent"`
	Reason             string            `json:"reason"`
	Status             string            `json:"status"`
}

// paymentMethod is a payment method as the state keeps it; methodShape is how
// Stripe shows it.
type paymentMethod struct {
	ID       string `json:"id"`
	Token    string `json:"token"`
	Customer string `json:"customer"`
	Created  int64  `json:"created"`
	Detached bool   `json:"detached,omitempty"` // from its customer, for good
}

type methodShape struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"`
	Card     cardShape         `json:"card"`
	Created  int64             `json:"created"`
	Customer optional          `json:"customer"`
	Livemode bool              `json:"livemode"`
	Metadata map[string]string `json:"metadata"`
	Type     string            `json:"type"`
}

// shape returns the payment method as Stripe shows it.
func (m *paymentMethod) shape() *methodShape {
	c, _ := cardOf(m.Token)
	return &methodShape{
		ID: m.ID, Object: "payment_method", Card: c.shape(), Created: m.Created,
		Customer: optional(m.Customer), Metadata: map[string]string{}, Type: "card",
	}
}
