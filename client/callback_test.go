package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/rocketrides/rocketrides/client"
)

const (
	secret       = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	callbackBody = `{"type":"ride.charged","timestamp":"2026-01-02T03:04:05.000006Z","data":` + chargedRide + `}`
)

// signed returns the headers of a callback, signed by the reference library.
func signed(t *testing.T, at time.Time, body string, secrets ...string) http.Header {
	t.Helper()
	header, err := sign(at, body, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// genuineCallback returns the request that a callback is, signed just now.
func genuineCallback(ctx context.Context) *http.Request {
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/hook", strings.NewReader(callbackBody))
	header, err := sign(time.Now(), callbackBody, secret)
	if err != nil {
		panic(err)
	}
	request.Header = header
	return request
}

func sign(at time.Time, body string, secrets ...string) (http.Header, error) {
	var signatures []string
	for _, secret := range secrets {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, err
		}
		signature, err := webhook.Sign("msg_1", at, []byte(body))
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, signature)
	}
	header := http.Header{}
	header.Set("webhook-id", "msg_1")
	header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	header.Set("webhook-signature", strings.Join(signatures, " "))
	return header, nil
}

func TestAGenuineCallbackIsRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got, err := client.VerifyCallback(signed(t, time.Now(), callbackBody, secret), []byte(callbackBody), secret)
		if err != nil || got.ID != "msg_1" || got.Type != client.CallbackCharged || got.Ride.ID != "ride_1" || got.Ride.Fare.Amount != 2350 ||
			!got.Timestamp.Equal(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// While a secret is rotated, the sender signs with both, or the receiver knows
// both: one in common is enough, wherever it stands.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signs, knows []string
		want         bool
	}{
		"the sender has both":        {[]string{otherSecret, secret}, []string{secret}, true},
		"the receiver has both":      {[]string{secret}, []string{otherSecret, secret}, true},
		"and the other way round":    {[]string{secret}, []string{secret, otherSecret}, true},
		"they have none in common":   {[]string{otherSecret}, []string{secret}, false},
		"signatures of other kinds":  {[]string{secret}, []string{secret}, true},
		"the sender signs with none": {nil, []string{secret}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := signed(t, time.Now(), callbackBody, test.signs...)
			if len(test.signs) > 0 {
				header.Set("webhook-signature", "v1a,abc "+header.Get("webhook-signature")+" v2,def")
			}
			_, err := client.VerifyCallback(header, []byte(callbackBody), test.knows...)
			if (err == nil) != test.want || err != nil && !errors.Is(err, client.ErrCallback) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWhatIsSignedCannotBeChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(http.Header){
		"the id":              func(h http.Header) { h.Set("webhook-id", "msg_2") },
		"the time":            func(h http.Header) { h.Set("webhook-timestamp", strconv.FormatInt(time.Now().Unix()+1, 10)) },
		"no id":               func(h http.Header) { h.Del("webhook-id") },
		"an id with a stop":   func(h http.Header) { h.Set("webhook-id", "msg.1") },
		"no time":             func(h http.Header) { h.Del("webhook-timestamp") },
		"a time in words":     func(h http.Header) { h.Set("webhook-timestamp", "now") },
		"no signature":        func(h http.Header) { h.Del("webhook-signature") },
		"an empty signature":  func(h http.Header) { h.Set("webhook-signature", "v1,") },
		"without the version": func(h http.Header) { h.Set("webhook-signature", h.Get("webhook-signature")[3:]) },
		"another version":     func(h http.Header) { h.Set("webhook-signature", "v2"+h.Get("webhook-signature")[2:]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := signed(t, time.Now(), callbackBody, secret)
			change(header)
			if _, err := client.VerifyCallback(header, []byte(callbackBody), secret); !errors.Is(err, client.ErrCallback) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := client.VerifyCallback(signed(t, time.Now(), callbackBody, secret), []byte(callbackBody+" "), secret); !errors.Is(err, client.ErrCallback) {
		t.Errorf("another body is accepted: %v", err)
	}
}

func TestACallbackIsOfNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for age, want := range map[time.Duration]bool{
			0: true, 300 * time.Second: true, 301 * time.Second: false, -300 * time.Second: true, -301 * time.Second: false,
		} {
			_, err := client.VerifyCallback(signed(t, time.Now().Add(-age), callbackBody, secret), []byte(callbackBody), secret)
			if (err == nil) != want || err != nil && !errors.Is(err, client.ErrCallback) {
				t.Errorf("one that was sent %s ago: %v", age, err)
			}
		}
	})
}

// Anybody could sign with a secret that is empty, short or misread.
func TestACallbackNeedsARealSecret(t *testing.T) {
	t.Parallel()
	short := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23))
	for _, secrets := range [][]string{nil, {""}, {"whsec_"}, {strings.TrimPrefix(secret, "whsec_")}, {short}, {secret, ""}} {
		_, err := client.VerifyCallback(signed(t, time.Now(), callbackBody, secret), []byte(callbackBody), secrets...)
		if err == nil || errors.Is(err, client.ErrCallback) {
			t.Errorf("%q: got %v, want an error about the secrets", secrets, err)
		} else if strings.Contains(err.Error(), secret[6:]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestReadCallbackReadsABoundedBody(t *testing.T) {
	t.Parallel()
	read := func(body string) error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = signed(t, time.Now(), body, secret)
		_, err = client.ReadCallback(request, secret)
		return err
	}
	if err := read(callbackBody); err != nil {
		t.Error(err)
	}
	if err := read(callbackBody + strings.Repeat(" ", 64<<10)); !errors.Is(err, client.ErrCallback) {
		t.Errorf("a large one: %v", err)
	}
	if err := read("{"); err == nil || errors.Is(err, client.ErrCallback) {
		t.Errorf("a genuine one that isn't JSON: %v", err)
	}
}
