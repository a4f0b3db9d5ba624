package payments

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stripe/stripe-go/v76/webhook"
)

const (
	oneSecret   = "whsec_one0123456789abcdef0123"
	otherSecret = "whsec_two0123456789abcdef0123"
	snapshot    = `{"id":"evt_1","object":"event","api_version":"2099-01-01.tulip","created":1700000000,"livemode":false,"type":"charge.refunded","data":{"object":{"id":"ch_1","object":"charge","amount":5}}}`
	thin        = `{"id":"evt_2","object":"v2.core.event","created":"2023-11-14T22:13:20.000Z","livemode":true,"context":"acct_9","type":"v1.payment_intent.succeeded","related_object":{"id":"pi_1","type":"payment_intent","url":"https://evil.example/v1/payment_intents/pi_2"},"snapshot_event":"evt_1"}`
)

// signedAt returns the header with which Stripe's own library signs body.
func signedAt(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

func TestASignedEventIsRead(t *testing.T) {
	t.Parallel()
	made := time.Unix(1700000000, 0)
	for body, want := range map[string]Event{
		snapshot: {ID: "evt_1", Type: "charge.refunded", Object: ObjectCharge, ObjectID: "ch_1", CreatedAt: made},
		thin:     {ID: "evt_2", Type: "payment_intent.succeeded", Object: ObjectIntent, ObjectID: "pi_1", Live: true, Account: "acct_9", CreatedAt: made},
		// Of a type that isn't worked.
		`{"id":"evt_3","object":"event","type":"customer.created","data":{"object":{"id":"cus_1"}},"account":"acct_8"}`: {ID: "evt_3", Type: "customer.created", ObjectID: "cus_1", Account: "acct_8"},
		// About something that can't be Stripe's.
		`{"id":"evt_4","object":"event","type":"refund.failed","data":{"object":{"id":"../customers/cus_1"}}}`: {ID: "evt_4", Type: "refund.failed", ObjectID: "../customers/cus_1"},
		`{"id":"evt_5","object":"v2.core.event","type":"v1.refund.failed","created":"soon"}`:                   {ID: "evt_5", Type: "refund.failed"},
	} {
		now := time.Now()
		got, err := ReadEvent([]string{oneSecret}, []string{signedAt(body, oneSecret, now)}, []byte(body), now)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

// TestATimeThatCannotBeIsNone: the event is read all the same.
func TestATimeThatCannotBeIsNone(t *testing.T) {
	t.Parallel()
	for _, created := range []string{
		"9999999999999", "-99999999999999", "-210866803201", "946684799", "253402300800",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e300", "null", "[]", `"x"`,
		`"1999-12-31T23:59:59Z"`, `"9999-12-31T23:59:59-01:00"`, `"0000-01-01T00:00:00Z"`,
	} {
		body, now := strings.Replace(snapshot, "1700000000", created, 1), time.Now()
		got, err := ReadEvent([]string{oneSecret}, []string{signedAt(body, oneSecret, now)}, []byte(body), now)
		if err != nil || got.ObjectID != "ch_1" || !got.CreatedAt.IsZero() {
			t.Errorf("created %s: read as %+v, error %v", created, got, err)
		}
	}
}

func TestWhoSignsAnEvent(t *testing.T) {
	t.Parallel()
	now := time.Unix(1800000000, 0)
	fresh := signedAt(snapshot, oneSecret, now)
	_, mac, _ := strings.Cut(fresh, ",v1=")
	at := func(d time.Duration) []string { return []string{signedAt(snapshot, oneSecret, now.Add(d))} }
	for name, c := range map[string]struct {
		secrets    []string
		signatures []string
		accepted   bool
	}{
		"the secret":                       {[]string{oneSecret}, []string{fresh}, true},
		"one of two secrets":               {[]string{otherSecret, oneSecret}, []string{fresh}, true},
		"one of two signatures":            {[]string{oneSecret}, []string{"t=1800000000,v1=" + hex.EncodeToString(make([]byte, 32)) + ",v1=" + mac}, true},
		"an unknown scheme beside it":      {[]string{oneSecret}, []string{fresh + ",v0=00,v7=xx"}, true},
		"as old as it may be":              {[]string{oneSecret}, at(-5 * time.Minute), true},
		"as early as it may be":            {[]string{oneSecret}, at(5 * time.Minute), true},
		"too old":                          {[]string{oneSecret}, at(-5*time.Minute - time.Second), false},
		"from the future":                  {[]string{oneSecret}, at(5*time.Minute + time.Second), false},
		"another secret":                   {[]string{otherSecret}, []string{fresh}, false},
		"no secret":                        {nil, []string{fresh}, false},
		"an empty secret":                  {nil, []string{signedAt(snapshot, "", now)}, false},
		"no header":                        {[]string{oneSecret}, nil, false},
		"an empty header":                  {[]string{oneSecret}, []string{""}, false},
		"two headers":                      {[]string{oneSecret}, []string{fresh, fresh}, false},
		"no time":                          {[]string{oneSecret}, []string{"v1=" + mac}, false},
		"a time that is no number":         {[]string{oneSecret}, []string{"t=now,v1=" + mac}, false},
		"an old signature with a new time": {[]string{oneSecret}, []string{"t=1800000000," + at(-time.Hour)[0]}, false},
		"the other way round":              {[]string{oneSecret}, []string{at(-time.Hour)[0] + ",t=1800000000"}, false},
		"another scheme":                   {[]string{oneSecret}, []string{"t=1800000000,v0=" + mac}, false},
		"half a signature":                 {[]string{oneSecret}, []string{"t=1800000000,v1=" + mac[:32]}, false},
	} {
		_, err := ReadEvent(c.secrets, c.signatures, []byte(snapshot), now)
		if errors.Is(err, ErrNotSigned) == c.accepted || c.accepted && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	changed := strings.Replace(snapshot, "ch_1", "ch_2", 1)
	if _, err := ReadEvent([]string{oneSecret}, []string{fresh}, []byte(changed), now); !errors.Is(err, ErrNotSigned) {
		t.Errorf("another body under the same signature: %v", err)
	}
}

func TestASignedBodyThatIsNoEvent(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, `[]`, `"evt"`, `{"id":"evt_1"}`, `{"object":"event","type":"charge.refunded"}`, `{"id":1,"object":"event"}`,
		`{"id":"evt 1","object":"event"}`, `{"id":"` + strings.Repeat("e", 300) + `","object":"event"}`, snapshot[:40],
	} {
		now := time.Now()
		event, err := ReadEvent([]string{oneSecret}, []string{signedAt(body, oneSecret, now)}, []byte(body), now)
		if err == nil || errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %+v, %v", body, event, err)
		}
		if err != nil && len(body) > 10 && strings.Contains(err.Error(), body[:10]) {
			t.Errorf("the error quotes the body: %v", err)
		}
	}
}

func TestEventSecrets(t *testing.T) {
	t.Parallel()
	got, err := ParseEventSecrets(" " + oneSecret + " , " + otherSecret)
	if err != nil || !slices.Equal(got, []string{oneSecret, otherSecret}) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := ParseEventSecrets("whsec_short,another"); err != nil || len(got) != 2 {
		t.Errorf("a test's secrets are refused: %q, %v", got, err)
	}
	for _, text := range []string{"", ",", oneSecret + ",", "whsec_", oneSecret + ",whsec_", "sk_test_0123456789abcdef0123456789", "whsec_0123456789 0123456789abc"} {
		if got, err := ParseEventSecrets(text); err == nil {
			t.Errorf("%q is accepted: %q", text, got)
		} else if len(text) > 10 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes %q", text)
		}
	}
}

// FuzzReadEvent: whatever is sent, nothing panics, what isn't signed is
// refused, and what is read fits the database.
func FuzzReadEvent(f *testing.F) {
	f.Add(snapshot, "", true)
	f.Add(thin, "", true)
	f.Add(`{"id":"evt_1","object":"event","created":9999999999999}`, "", true)
	f.Add(`{"id":"evt_1","object":"event","created":"x","data":{"object":null}}`, "t=1,v1=00", false)
	f.Fuzz(func(t *testing.T, body, header string, sign bool) {
		now := time.Unix(1800000000, 0)
		if sign {
			header = signedAt(body, oneSecret, now)
		}
		event, err := ReadEvent([]string{oneSecret}, []string{header}, []byte(body), now)
		switch {
		case !sign && !errors.Is(err, ErrNotSigned):
			t.Fatalf("%q is taken for a signature of %q", header, body)
		case err == nil && (!isWord(event.ID) || event.Object != "" && !isWord(event.ObjectID)):
			t.Fatalf("read %+v", event)
		case err == nil && !event.CreatedAt.IsZero() && (event.CreatedAt.UTC().Year() < 2000 || event.CreatedAt.UTC().Year() > 9999):
			t.Fatalf("read %+v", event)
		}
	})
}
