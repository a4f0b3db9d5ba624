package process

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// ReadyTimeout bounds AwaitReady.
const ReadyTimeout = 30 * time.Second

// requestTimeout bounds one request of AwaitReady: a process that accepts a
// connection and never answers must not hide that it has ended.
const requestTimeout = 2 * time.Second

// AwaitReady returns when url answers 200 to a GET. It returns the error that
// comes from failed before that, and an error after ReadyTimeout or when ctx
// ends. A nil channel never fails.
func AwaitReady(ctx context.Context, url string, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, ReadyTimeout)
	defer cancel()
	for !answers(ctx, url) {
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := pause.For(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not answer 200: %w", url, err)
		}
	}
	return nil
}

// answers reports whether url answers 200 to a GET, within requestTimeout. Each
// call has a connection of its own and uses no proxy.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
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
