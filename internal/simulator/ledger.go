package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxLedger is the most that is read of the ledger: a million rides have less.
const maxLedger = 64 << 20

// ledger is the fake Stripe's.
type ledger struct{ url string }

// charges returns how many charges succeeded for each ride.
func (l ledger) charges(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(l.url, "/")+"/_fake/charges", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("reading Stripe's ledger: %w", err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("reading Stripe's ledger: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	var counts map[string]int
	err = json.NewDecoder(io.LimitReader(response.Body, maxLedger)).Decode(&counts)
	if response.StatusCode != http.StatusOK || err != nil {
		return nil, fmt.Errorf("reading Stripe's ledger: %s is no fake Stripe: it answers %s (%w)", l.url, response.Status, err)
	}
	return counts, nil
}
