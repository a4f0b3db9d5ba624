package commands

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/api/apitest"
)

const sanFranciscoToOakland = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`

// answer is what a client received, or the error of a request without an
// answer.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// roundTrip makes a request to the API, and compares it and its answer with the
// OpenAPI document.
func (s *scene) roundTrip(request *http.Request) (*http.Response, error) {
	return apitest.Transport{T: s.t, Base: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}.RoundTrip(request)
}

// rideRequest returns a request for a ride to a process.
func (s *scene) rideRequest(ctx context.Context, p *process, key string) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.api+"/v1/rides", strings.NewReader(sanFranciscoToOakland))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.apiKey)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	return request, nil
}

// hail requests a ride from a process.
func (s *scene) hail(p *process, key string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := s.rideRequest(ctx, p, key)
	if err != nil {
		return answer{err: err}
	}
	response, err := s.roundTrip(request)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body), err: err}
}

// hailInBackground requests a ride and delivers the answer later.
func (s *scene) hailInBackground(p *process, key string) <-chan answer {
	answers := make(chan answer, 1)
	go func() { answers <- s.hail(p, key) }()
	return answers
}

// hailAndLeave requests a ride over a connection of its own, and returns a
// function that closes the connection.
func (s *scene) hailAndLeave(t *testing.T, p *process, key string) func() {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := s.rideRequest(t.Context(), p, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(connection); err != nil {
		t.Fatal(err)
	}
	return func() { _ = connection.Close() }
}

// get returns the status of a page, or 0 when nobody answers.
func get(t *testing.T, url string) int {
	t.Helper()
	status, _ := fetch(t, url)
	return status
}

// fetch returns the status and body of a page, or 0 when nobody answers.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
