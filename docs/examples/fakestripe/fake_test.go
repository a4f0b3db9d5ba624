// Package fakestripe_test shows how a test of another module uses the fake
// Stripe: as a program.
package fakestripe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain builds the program, as `go install` does in the document.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fakestripe")
		if err == nil {
			defer os.RemoveAll(dir) //nolint:errcheck // it is temporary
			err = exec.CommandContext(context.Background(), "go", "build", "-o", dir+"/fakestripe", "../../../cmd/fakestripe").Run()
		}
		if err == nil {
			err = os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "building fakestripe:", err)
			return 1
		}
		return m.Run()
	}())
}

// startFake starts a fake Stripe for one test, and returns its URL. It ends
// with the test.
func startFake(t *testing.T) string {
	t.Helper()
	fake := exec.CommandContext(t.Context(), "fakestripe", "--listen", "127.0.0.1:0")
	out, err := fake.StdoutPipe()
	if err == nil {
		err = fake.Start()
	}
	if err != nil {
		t.Fatalf("starting fakestripe: %v", err)
	}
	t.Cleanup(func() { _ = fake.Wait() }) // t.Context has ended, so it was killed
	line, _ := bufio.NewReader(out).ReadString('\n')
	_, rest, _ := strings.Cut(line, " on ")
	url, _, found := strings.Cut(rest, ";")
	if !found {
		t.Fatalf("fakestripe said %q", line)
	}
	return url
}

// A charge whose answer was lost is not made again under its key.
func TestAChargeIsMadeOnce(t *testing.T) {
	t.Parallel()
	url := startFake(t)
	post(t, url+"/_fake/faults", `{"kind":"drop_after"}`)
	const form = "amount=2350&currency=usd&customer=cus_visa&payment_method=pm_card_visa&confirm=true&off_session=true" +
		"&payment_method_types[]=card&metadata[ride_id]=order_1"
	for range 2 { // the first one gets no answer
		post(t, url+"/v1/payment_intents", form)
	}
	response, err := http.Get(url + "/_fake/charges") //nolint:noctx // a test that reads
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // a test that reads
	if charges, err := io.ReadAll(response.Body); err != nil || strings.TrimSpace(string(charges)) != `{"order_1":1}` {
		t.Errorf("charged %s, %v", charges, err)
	}
}

// post sends a form, or JSON to the fake's own routes, under one key. The answer
// may be lost.
func post(t *testing.T, url, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer sk_test_123")
	request.Header.Set("Idempotency-Key", "order_1")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if response, err := http.DefaultTransport.RoundTrip(request); err == nil {
		_ = response.Body.Close()
	}
}
