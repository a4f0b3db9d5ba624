package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// maxLedger is the most that is read of the ledger: a million rides have less.
const maxLedger = 64 << 20

// ledger is the fake Stripe's.
type ledger struct{ url string } // without a slash at its end

// A tally counts the charges of a ride.
type tally struct {
	Succeeded int `json:"succeeded"` // also if they were refunded
	Refunded  int `json:"refunded"`  // in full
}

// charges returns the charges of each ride.
func (l ledger) charges(ctx context.Context) (map[string]tally, error) {
	var counts map[string]tally
	if err := l.ask(ctx, http.MethodGet, "/_fake/charges?detail=true", "", &counts); err != nil {
		return nil, fmt.Errorf("reading Stripe's ledger: %w", err)
	}
	return counts, nil
}

// ask sends a request to the controls of the fake Stripe, and decodes its
// answer.
func (l ledger) ask(ctx context.Context, method, path, body string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, l.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is no fake Stripe: it answers %s", l.url, response.Status)
	}
	return json.NewDecoder(io.LimitReader(response.Body, maxLedger)).Decode(result)
}

// faults are those that pass by: none of them may change what becomes of a
// ride, but a declined card.
func faults() []string {
	return []string{
		`{"kind":"drop_before"}`, `{"kind":"drop_after"}`, `{"kind":"truncated_200"}`, `{"kind":"500_unsaved"}`, `{"kind":"502_html"}`,
		`{"kind":"503"}`, `{"kind":"429","retry_after":"1s"}`, `{"kind":"409_in_use"}`, `{"kind":"latency","latency":"2s"}`, `{"kind":"402"}`,
	}
}

// spoil gives Stripe a fault from time to time, until ctx ends. Each strikes
// one request. A Stripe that can't be reached has faults enough.
func (s *simulation) spoil(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.Seed, 1<<32)) //nolint:gosec // it must be repeatable
	all := faults()
	for pause.For(ctx, time.Duration(random.ExpFloat64()*float64(s.Faults))) == nil {
		var answer any
		_ = s.stripe.ask(ctx, http.MethodPost, "/_fake/faults", all[random.IntN(len(all))], &answer)
	}
}
