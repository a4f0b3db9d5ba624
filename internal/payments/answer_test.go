package payments

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// nested returns an intent whose charge holds its intent, whose charge …, so
// deep, and a text at the bottom.
func nested(depth int, bottom string) string {
	deep := strings.Repeat(`{"id":"ch_1","payment_intent":{"id":"pi_1","latest_charge":`, depth/2) + bottom + strings.Repeat("}}", depth/2)
	return strings.Replace(encodeObject(intentWith(object{"latest_charge": "here"})), `"here"`, deep, 1)
}

// stripe-go takes a minute and 700 MB for 4,900 levels, and several seconds for
// a long text at the bottom of 60.
func TestDeepAnswersAreRefusedBeforeTheyAreDecoded(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	for name, body := range map[string]string{
		"3,000 levels":              nested(3000, "null"),
		"4,900 levels":              nested(4900, "null"),
		"4,900 arrays":              strings.Repeat("[", 4900) + strings.Repeat("]", 4900),
		"a long text at the bottom": nested(60, `"`+strings.Repeat(`x\"`, answerLimit/4)+`"`),
	} {
		server := newStripeServer(t, chargeOnly(answerWith(200, body)))
		client, registry := server.client(t, nil)
		before := allocated()
		start := time.Now()
		_, err := client.Charge(t.Context(), firstSend())
		took, used := time.Since(start), allocated()-before
		var failed *phases.CallError
		if !errors.As(err, &failed) || failed.Class != phases.Unknown || !strings.Contains(err.Error(), errTooDeep.Error()) {
			t.Errorf("%s: got %v, want an unknown result", name, err)
		}
		if took > 20*time.Second || used > 32<<20 {
			t.Errorf("%s took %v and %d bytes", name, took, used)
		}
		wantEqual(t, "rows", []string{"charge/lost"}, judgments(t, registry))
	}
}

// allocated returns how many bytes the process has allocated until now.
func allocated() uint64 {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return memory.TotalAlloc
}

func TestNestingCountsOnlyWhatIsNoText(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		strings.Repeat("[", depthLimit) + strings.Repeat("]", depthLimit):     true,
		strings.Repeat("[", depthLimit+1) + strings.Repeat("]", depthLimit+1): false,
		strings.Repeat(`{"a":`, depthLimit+1):                                 false,
		strings.Repeat("[]{}", 10_000):                                        true,
		`"` + strings.Repeat("[", 10_000) + `"`:                               true,
		`"\"` + strings.Repeat("[", 10_000) + `"`:                             true,
		`"\\"` + strings.Repeat("[", 10_000) + `"`:                            false,
		`"\`: true,
		"":   true,
	} {
		if _, err := checkNesting([]byte(text)); (err == nil) != ok {
			t.Errorf("%.20s…: got %v, want it accepted: %t", text, err, ok)
		}
	}
}

func TestLongAnswersAtOnceTakeLittleMemory(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	body := []byte("<html>" + strings.Repeat("x", answerLimit-100)) // JSON takes no more memory, and ten times as long
	server := newStripeServer(t, chargeOnly(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = bytes.NewReader(body).WriteTo(w)
	}))
	client, _ := server.client(t, func(c *Config) { c.Timeout = 5 * time.Minute })
	runtime.GC()
	before, highest := heap(), uint64(0)
	ended := make(chan struct{})
	var watch, all sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				highest = max(highest, heap())
			}
		}
	})
	for range 100 {
		all.Go(func() {
			if charge, err := client.Charge(t.Context(), firstSend()); err == nil || !strings.Contains(err.Error(), "answered 200") {
				t.Errorf("got %+v, %v", charge, err)
			}
		})
	}
	all.Wait()
	close(ended)
	watch.Wait()
	if used := int64(highest) - int64(before); used > 100<<20 { //nolint:gosec // no heap is so large
		t.Errorf("100 answers of 4 MiB took %d MiB", used>>20)
	} else {
		t.Logf("100 answers of 4 MiB took %d MiB", used>>20)
	}
}

// heap returns how many bytes of the heap are in use, garbage included.
func heap() uint64 {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return memory.HeapAlloc
}

// An answer that comes slowly holds its place. Those that need none go on, and
// those that wait for one give up in time.
func TestWaitingForMemoryEndsInTime(t *testing.T) {
	t.Parallel()
	started, padding := make(chan struct{}, 1), object{"padding": strings.Repeat("x", 2<<20)}
	slowly := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(encodeObject(intentWith(padding))))
		_ = http.NewResponseController(w).Flush()
		started <- struct{}{}
		answerNever(w, r)
	}
	server := newStripeServer(t, map[string][]http.HandlerFunc{
		routeCreate: {slowly, answerOK(intentWith(padding)), answerOK(intentWith(nil)), answerOK(intentWith(padding))},
	})
	client, _ := server.client(t, nil)
	hasty := *client
	hasty.timeout = 3 * time.Second // enough for a slow machine to get as far as the place
	var slow sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	slow.Go(func() {
		if charge, err := client.Charge(ctx, firstSend()); err == nil {
			t.Errorf("an answer that never ends became %+v", charge)
		}
	})
	<-started
	eventually(t, "the long answer's place", func() bool { return len(client.tiers[3].places) == 1 })
	var failed *phases.CallError
	if _, err := hasty.Charge(t.Context(), firstSend()); !errors.As(err, &failed) || failed.Class != phases.Unknown {
		t.Errorf("without a place got %v, want an unknown result", err)
	}
	if charge, err := client.Charge(t.Context(), firstSend()); err != nil || charge.Status != ChargeSucceeded {
		t.Errorf("a short answer became %+v, %v", charge, err)
	}
	stop()
	slow.Wait()
	if charge, err := client.Charge(t.Context(), firstSend()); err != nil || charge.Status != ChargeSucceeded {
		t.Errorf("after the others a long answer became %+v, %v", charge, err)
	}
}
