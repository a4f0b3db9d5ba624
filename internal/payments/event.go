package payments

import (
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"
)

// MaxEvent is the most that an event may have, in bytes. Stripe's own are a few
// KB.
const MaxEvent = 256 << 10

// signatureTolerance is how far the time of a signature may differ from now, in
// both directions. An older one may be a replay of a request that somebody has
// recorded. stripe-go accepts any time in the future.
const signatureTolerance = webhook.DefaultTolerance

// ErrNotSigned means that a request doesn't come from Stripe, or not within
// five minutes.
var ErrNotSigned = errors.New("the request is not signed by Stripe")

// An ObjectKind is a kind of Stripe's objects, as Stripe names it.
type ObjectKind string

// The kinds of objects whose events are worked.
const (
	ObjectIntent  ObjectKind = "payment_intent"
	ObjectCharge  ObjectKind = "charge"
	ObjectRefund  ObjectKind = "refund"
	ObjectDispute ObjectKind = "dispute"
)

// An Event says that something has happened to an object at Stripe. Nothing of
// it is believed but that: what is true is read from Stripe.
type Event struct {
	ID   string // evt_…
	Type string // Stripe's, without the prefix that thin events have: charge.refunded
	// Object is "" for an event of a type that isn't worked, and for one that
	// names no object.
	Object   ObjectKind
	ObjectID string
	// Live says that the object moves real money.
	Live bool
	// Account is the Stripe account that the object belongs to. It is empty
	// for the account to which the event is sent.
	Account string
	// CreatedAt is by Stripe's clock, in the years 2000 to 9999; zero if the
	// event doesn't say.
	CreatedAt time.Time
}

// ParseEventSecrets returns the signing secrets of Stripe's webhook endpoints,
// which are separated by commas. While a secret is rotated there are two; each
// endpoint, such as one for thin events, has its own. The error doesn't quote
// them.
func ParseEventSecrets(text string) ([]string, error) {
	var secrets []string
	for secret := range strings.SplitSeq(text, ",") {
		secret = strings.TrimSpace(secret)
		switch {
		case strings.TrimPrefix(secret, "whsec_") == "": // anybody could sign with it
			return nil, errors.New("a signing secret of Stripe's webhook endpoint is missing; several are separated by commas")
		case strings.ContainsAny(secret, " \t\r\n"), strings.HasPrefix(secret, "sk_"), strings.HasPrefix(secret, "rk_"), strings.HasPrefix(secret, "pk_"):
			return nil, errors.New("the signing secret of Stripe's webhook endpoint is neither an API key nor has it blanks; Stripe's begin with whsec_")
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// ReadEvent returns the event that a request holds. signatures are the values
// of the header Stripe-Signature, body is the request's body as it was sent,
// and now is the present time. The error wraps ErrNotSigned unless the body was
// signed with one of the secrets within the tolerance. Any other error means
// that Stripe has signed something that is no event.
//
// Snapshot and thin events of every API version are read, because only what all
// of them have is looked at. See https://docs.stripe.com/webhooks/signature and
// https://docs.stripe.com/event-destinations.
func ReadEvent(secrets, signatures []string, body []byte, now time.Time) (Event, error) {
	if err := checkSignature(secrets, signatures, body, now); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrNotSigned, err)
	}
	var shape eventShape
	if err := json.Unmarshal(body, &shape); err != nil {
		return Event{}, errors.New("the signed body is no JSON object of an event's form") // the error would quote it
	}
	return shape.event()
}

// checkSignature returns an error unless body was signed with one of the
// secrets.
func checkSignature(secrets, signatures []string, body []byte, now time.Time) error {
	if len(secrets) == 0 {
		return errors.New("there is no secret to check its signature with")
	}
	if len(signatures) != 1 {
		return errors.New("there is not exactly one Stripe-Signature header")
	}
	at, sent, err := parseSignature(signatures[0])
	if err != nil {
		return err
	}
	if age := now.Sub(at); age > signatureTolerance || age < -signatureTolerance {
		return errors.New("the signature is not of this time")
	}
	for _, secret := range secrets {
		want := webhook.ComputeSignature(at, body, secret)
		for _, got := range sent {
			if hmac.Equal(want, got) { // in constant time
				return nil
			}
		}
	}
	return errors.New("no signature matches")
}

// parseSignature reads t=1495999758,v1=5257a8…,v1=…. There must be one time: of
// several, the one that is checked and the one that was signed could differ.
func parseSignature(header string) (at time.Time, sent [][]byte, err error) {
	times := 0
	for pair := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		switch name {
		case "t":
			times++
			seconds, parseErr := strconv.ParseInt(value, 10, 64)
			if parseErr != nil {
				return time.Time{}, nil, errors.New("its time is no number")
			}
			at = time.Unix(seconds, 0)
		case "v1":
			if signature, decodeErr := hex.DecodeString(value); decodeErr == nil {
				sent = append(sent, signature)
			}
		}
	}
	if times != 1 {
		return time.Time{}, nil, errors.New("it has not exactly one time")
	}
	return at, sent, nil
}

// An eventShape is what is looked at in an event: the fields of snapshot events
// (object "event") and of thin ones ("v2.core.event").
type eventShape struct {
	ID       string          `json:"id"`
	Object   string          `json:"object"`
	Type     string          `json:"type"`
	Livemode bool            `json:"livemode"`
	Created  json.RawMessage `json:"created"` // Unix seconds, or RFC 3339 in a thin event

	Account string `json:"account"`
	Data    struct {
		Object struct {
			ID string `json:"id"`
		} `json:"object"`
	} `json:"data"`

	Context       string `json:"context"`
	RelatedObject struct {
		ID string `json:"id"`
	} `json:"related_object"`
}

// event returns what the shape says. Ids that aren't words don't come from
// Stripe, and the database couldn't hold them.
func (s eventShape) event() (Event, error) {
	e := Event{ID: s.ID, Live: s.Livemode, CreatedAt: s.createdAt()}
	switch s.Object {
	case "event":
		e.Type, e.ObjectID, e.Account = s.Type, s.Data.Object.ID, s.Account
	case "v2.core.event":
		e.Type, e.ObjectID, e.Account = strings.TrimPrefix(s.Type, "v1."), s.RelatedObject.ID, s.Context
	default:
		return Event{}, errors.New("the signed body is no event")
	}
	if e.ID == "" || !isWord(e.ID) {
		return Event{}, errors.New("the signed event has no id")
	}
	if e.ObjectID != "" && isWord(e.ObjectID) {
		e.Object = eventTypes[e.Type]
	}
	return e, nil
}

// createdAt returns when the event was made, or zero if that is no time of this
// age. People are shown it, and nothing else looks at it: an event must not be
// refused because the database can't hold it.
func (s eventShape) createdAt() time.Time {
	var at time.Time
	if seconds, err := strconv.ParseInt(string(s.Created), 10, 64); err == nil {
		at = time.Unix(seconds, 0)
	} else if err := json.Unmarshal(s.Created, &at); err != nil {
		return time.Time{}
	}
	if year := at.UTC().Year(); year < 2000 || year > 9999 {
		return time.Time{}
	}
	return at
}

// eventTypes are the types of events that are worked, and the kinds of objects
// that they are about. See https://docs.stripe.com/api/events/types.
//
//nolint:gochecknoglobals // a table that nothing writes to
var eventTypes = map[string]ObjectKind{
	"payment_intent.succeeded":      ObjectIntent,
	"payment_intent.payment_failed": ObjectIntent,
	"payment_intent.canceled":       ObjectIntent,

	"charge.refunded": ObjectCharge,

	"charge.refund.updated": ObjectRefund,
	"refund.created":        ObjectRefund,
	"refund.updated":        ObjectRefund,
	"refund.failed":         ObjectRefund,

	"charge.dispute.created":          ObjectDispute,
	"charge.dispute.updated":          ObjectDispute,
	"charge.dispute.closed":           ObjectDispute,
	"charge.dispute.funds_withdrawn":  ObjectDispute,
	"charge.dispute.funds_reinstated": ObjectDispute,
}
