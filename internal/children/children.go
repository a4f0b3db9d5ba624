// Package children holds what every program that runs others as its children
// needs: that they end with it, and to know when they can serve. How a child is
// started again, and when, is each program's own.
package children

import (
	"context"
	"net/http"
	"time"
)

// probeTimeout bounds one request of Answers: whoever waits for a child that
// hangs must still see that it ended, or that the wait is over.
const probeTimeout = 2 * time.Second

// Answers tells whether url answers 200 to a GET, within two seconds and before
// ctx ends. Each call has a connection of its own and asks no proxy. It is safe
// for concurrent use.
func Answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}
