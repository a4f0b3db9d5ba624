package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The receipt and the callback of a ride are there within two seconds of its
// end. A busy machine may delay some of them, but not all.
func TestReceiptAndCallbackComeWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	p := start(t, filepath.Join(folder(t), ".sandbox"), freePorts)
	for try := 1; ; try++ {
		ended := p.hailWithCallback(t, fmt.Sprint("k", try))
		eventually(t, "the receipt and the callback are there", func() bool {
			return strings.Contains(get(t, p.state.InboxURL).body, ended.ID) && strings.Contains(get(t, p.state.CallbacksURL).body, ended.ID)
		})
		took := time.Since(ended.at)
		t.Logf("both came %s after the ride's end", took.Round(time.Millisecond))
		if took < 2*time.Second {
			break
		}
		if try == 10 {
			t.Fatal("each took more than two seconds")
		}
	}
	for _, c := range p.callbacks(t) {
		if c.Account != "visa" || !c.Verified || !strings.Contains(string(c.Body), `"type":"ride.charged"`) {
			t.Errorf("it got %+v: %s", c, c.Body)
		}
	}
	p.checkForgedCallback(t)
}

// An endedRide is a ride whose end was told to its client.
type endedRide struct {
	ID string
	at time.Time
}

// hailWithCallback hails a ride whose callback goes to the sandbox's receiver.
func (p *sandboxProcess) hailWithCallback(t *testing.T, key string) (ride endedRide) {
	t.Helper()
	a := ask(t, http.MethodPost, p.state.APIURL+"/v1/rides",
		`{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712},"callback_url":"`+p.state.CallbacksURL+`"}`,
		http.Header{"Authorization": {"Bearer " + p.state.Accounts[0].APIKey}, "Idempotency-Key": {key}, "Content-Type": {"application/json"}})
	ride.at = time.Now()
	if err := json.Unmarshal([]byte(a.body), &ride); err != nil || a.status != http.StatusCreated {
		t.Fatalf("the ride was answered with %d: %s", a.status, a.body)
	}
	return ride
}

// callbacks returns the callbacks that the receiver has got.
func (p *sandboxProcess) callbacks(t *testing.T) (got []callback) {
	t.Helper()
	if err := json.Unmarshal([]byte(get(t, p.state.CallbacksURL).body), &got); err != nil || len(got) == 0 {
		t.Fatalf("the receiver has %v (%v)", got, err)
	}
	return got
}

// checkForgedCallback sends a callback that nobody has signed. It is shown, and
// not acknowledged.
func (p *sandboxProcess) checkForgedCallback(t *testing.T) {
	t.Helper()
	forged := ask(t, http.MethodPost, p.state.CallbacksURL, `{"type":"ride.charged"}`,
		http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "Webhook-Signature": {"v1,Zm9yZ2Vk"}})
	if forged.status != http.StatusUnauthorized {
		t.Errorf("a forged callback was answered with %d", forged.status)
	}
	if newest := p.callbacks(t)[0]; newest.Verified || newest.Account != "" || newest.WebhookID != "msg_1" {
		t.Errorf("a forged callback is shown as %+v", newest)
	}
	if got := ask(t, http.MethodPut, p.state.CallbacksURL, "", nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT was answered with %d", got.status)
	}
	if got := ask(t, http.MethodPost, p.state.CallbacksURL, "no JSON", nil); got.status != http.StatusBadRequest {
		t.Errorf("what isn't JSON was answered with %d", got.status)
	}
}
