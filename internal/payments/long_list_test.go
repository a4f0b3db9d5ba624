package payments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A longList is a Stripe whose list of payment intents has many pages of one
// intent each, the oldest of which is ours. Each page takes its time.
type longList struct {
	pages int
	takes time.Duration
	hangs int // the page that is never answered, from 1; 0: none
	asked int // how many pages were
}

// RoundTrip implements http.RoundTripper.
func (l *longList) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := answerOK(expandedWith(nil, nil))
	if r.URL.Path == intentsPath {
		l.asked++
		answer = answerPage(true, intentWith(object{"id": fmt.Sprint("pi_other_", l.asked), "metadata": foreignMetadata()}))
		if l.asked == l.pages {
			answer = answerPage(false, intentWith(nil))
		}
		page := time.After(l.takes)
		if l.asked == l.hangs {
			page = nil
		}
		select {
		case <-page:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	recorder := httptest.NewRecorder()
	answer(recorder, r)
	return recorder.Result(), nil
}

// client returns a Stripe that asks l, and what it logs. It must be called in
// the bubble of the test.
func (l *longList) client(t *testing.T, change func(*Config)) (*Stripe, *bytes.Buffer) {
	t.Helper()
	var logged bytes.Buffer
	config := Config{
		Key: testKey, URL: "http://stripe.test", Timeout: 20 * time.Second, Saved500After: time.Hour, Transport: l,
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	if change != nil {
		change(&config)
	}
	client, err := NewStripe(config)
	if err != nil {
		t.Fatalf("making the client: %v", err)
	}
	return client, &logged
}

// An account may have more payments than can be listed within one time-out.
func TestALongListIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := &longList{pages: 160, takes: time.Second}
		client, logged := list.client(t, nil)
		begun := time.Now()
		charge, err := client.FindCharge(t.Context(), firstSend(), customers())
		wantStatus(t, charge, err, ChargeSucceeded)
		wantEqual(t, "time", 160*time.Second, time.Since(begun))
		wantEqual(t, "lines in the log", 2, strings.Count(logged.String(), "reading a long list"))
		list.asked = 0
		err = client.VerifyNotCharged(t.Context(), firstSend().Key, firstSend().Form, firstSend().FirstSentAt, nil)
		if possible, ok := errors.AsType[*ChargePossibleError](err); !ok || possible.IntentID != "pi_1" {
			t.Errorf("got %v, want an error about pi_1", err)
		}
	})
}

// A page that isn't answered has no more time than any other request.
func TestAPageThatHangsEndsTheLookUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := &longList{pages: 9, takes: time.Second, hangs: 3}
		client, _ := list.client(t, nil)
		begun := time.Now()
		charge, err := client.FindCharge(t.Context(), firstSend(), customers())
		failed, ok := errors.AsType[*phases.CallError](err)
		if !ok || failed.Class != phases.Unknown || failed.Counts || strings.Contains(err.Error(), "longer") {
			t.Errorf("got %+v, %v, want an error that the result is unknown", charge, err)
		}
		wantEqual(t, "time", 22*time.Second, time.Since(begun))
	})
}

// Of a list that can't be read in the time that a look-up has, nothing is
// known, and whoever asks learns why.
func TestAListThatIsTooLongSaysSo(t *testing.T) {
	t.Parallel()
	find := func(ctx context.Context, client *Stripe) error {
		ctx, cancel := context.WithTimeout(ctx, 62*time.Second)
		defer cancel()
		_, err := client.FindCharge(ctx, firstSend(), customers())
		return err
	}
	for name, c := range map[string]struct {
		takes  time.Duration
		change func(*Config)
		ask    func(ctx context.Context, client *Stripe) error
		want   string
		after  time.Duration
	}{
		"a look-up": {700 * time.Millisecond, nil, find, "the list is longer than could be read in 1m2s: 88 pages of up to 100 were read", 62 * time.Second},
		// A turn comes every four seconds, and the next one would come too late.
		"a look-up that waits for its turns": {
			0, func(c *Config) { c.Rate = 0.5 }, find,
			"the list is longer than could be read in 56s: 15 pages of up to 100 were read", 56 * time.Second,
		},
		"what a person asks": {
			700 * time.Millisecond, nil, func(ctx context.Context, client *Stripe) error {
				return client.VerifyNotCharged(ctx, firstSend().Key, firstSend().Form, firstSend().FirstSentAt, nil)
			}, "the list is longer than could be read in 15m0s: 1285 pages of up to 100 were read", 15 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				list := &longList{takes: c.takes}
				client, _ := list.client(t, c.change)
				begun := time.Now()
				err := c.ask(t.Context(), client)
				if _, possible := errors.AsType[*ChargePossibleError](err); err == nil || possible || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if failed, ok := errors.AsType[*phases.CallError](err); ok && failed.Class != phases.Unknown {
					t.Errorf("the result is %s, want unknown", failed.Class)
				}
				wantEqual(t, "time", c.after, time.Since(begun))
			})
		})
	}
}

// A process that ends releases its keys, and doesn't read on.
func TestALookUpEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := &longList{takes: time.Second}
		client, _ := list.client(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5500*time.Millisecond, cancel)
		begun := time.Now()
		if charge, err := client.FindCharge(ctx, firstSend(), customers()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %+v, %v", charge, err)
		}
		wantEqual(t, "time", 5500*time.Millisecond, time.Since(begun))
		wantEqual(t, "pages that were asked for", 6, list.asked)
	})
}
