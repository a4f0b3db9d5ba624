package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long a client waits for an answer.
	patience = 8 * time.Second
	// tries is how often a client sends a request before it gives up.
	tries = 14
)

// An account is an account at the service.
type account struct {
	id, apiKey, customer string
	declined             bool // its card is declined
}

// clients is what all clients share.
type clients struct {
	apis       []string // the links to the apis
	urls       map[string]string
	accounts   []*account
	httpClient *http.Client
	requests   atomic.Int64

	mu sync.Mutex
	// recent are keys that any client may use again.
	recent []trip
}

// A trip is a key and the ride that is asked for under it.
type trip struct {
	account *account
	key     string
	lat     float64
}

// body returns the body of the request in a variant.
func (t trip) body(v variant) string {
	lat := fmt.Sprintf("%.5f", t.lat+float64(v)/100)
	if v == invalid {
		lat = "99"
	}
	return `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":` + lat + `,"lon":-122.2712}}`
}

func newClients(apis []string, urls map[string]string, accounts []*account) *clients {
	return &clients{
		apis: apis, urls: urls, accounts: accounts,
		httpClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}},
	}
}

// A client is one client. Its requests may run at the same time.
type client struct {
	*clients
	id      int
	journal *journal
	trips   int

	mu     sync.Mutex
	random *rand.Rand
}

func newClient(c *clients, seed uint64, id int, j *journal) *client {
	return &client{clients: c, id: id, journal: j, random: rand.New(rand.NewPCG(seed, 1000+uint64(id)))} //nolint:gosec // it must be repeatable, not secret
}

// roll draws a number from 0 to n-1.
func (c *client) roll(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

// about draws a pause from d/2 to 3d/2.
func (c *client) about(d time.Duration) time.Duration {
	return d/2 + time.Duration(c.roll(int(d)))
}

// newTrip returns a trip with a new key.
func (c *client) newTrip() trip {
	c.trips++
	return trip{
		account: c.accounts[c.roll(len(c.accounts))],
		key:     fmt.Sprintf("ride-%d-%d", c.id, c.trips),
		lat:     37.8 + float64(c.roll(50_000))/100_000,
	}
}

// again returns a trip that a client has asked for lately, if there is one.
func (c *client) again() (trip, bool) {
	c.clients.mu.Lock()
	defer c.clients.mu.Unlock()
	if len(c.recent) == 0 {
		return trip{}, false
	}
	return c.recent[c.roll(len(c.recent))], true
}

// remember lets any client use the key of a trip again.
func (c *client) remember(t trip) {
	const most = 2000
	c.clients.mu.Lock()
	defer c.clients.mu.Unlock()
	if len(c.recent) < most {
		c.recent = append(c.recent, t)
		return
	}
	c.recent[c.roll(most)] = t
}

// A manner is how a request is made.
type manner struct {
	variant variant
	async   bool
	wait    int           // for how many seconds it prefers to wait
	leave   time.Duration // after which the client closes the connection; 0 means never
}

// hail asks one of the apis for the ride, once.
func (c *client) hail(ctx context.Context, t trip, m manner) answer {
	o := &op{Account: t.account.id, Key: t.key, Variant: m.variant, Async: m.async, Wait: m.wait, Sent: t.body(m.variant)}
	return c.send(ctx, t, o, m.leave)
}

// look asks for the state of the ride.
func (c *client) look(ctx context.Context, t trip) answer {
	return c.send(ctx, t, &op{Account: t.account.id, Key: t.key, Look: true}, 0)
}

// await asks for the state of the ride, and waits for its end, once a look has
// shown the ride's id.
func (c *client) await(ctx context.Context, t trip) {
	var ride struct{ ID string }
	if a := c.look(ctx, t); a.Body != "" && json.Unmarshal([]byte(a.Body), &ride) == nil && ride.ID != "" {
		c.send(ctx, t, &op{Account: t.account.id, Key: t.key, Look: true, Wait: 1 + c.roll(3), Ride: ride.ID}, 0)
	}
}

// send makes one request and notes it in the journal. It waits for the answer
// even if ctx ends.
func (c *client) send(ctx context.Context, t trip, o *op, leave time.Duration) answer {
	limit := patience
	if leave > 0 {
		limit = leave
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	o.Via = c.apis[c.roll(len(c.apis))]
	request, err := newRequest(ctx, c.urls[o.Via], t, o)
	if err != nil {
		return answer{Err: err.Error()}
	}
	c.requests.Add(1)
	c.journal.begin(o)
	a := c.exchange(request)
	switch {
	case o.Ride != "":
		a.Body = strings.TrimSuffix(a.Body, "\n") // as in a list
	case o.Look && a.Status == http.StatusOK:
		a = firstOf(a)
	}
	c.journal.end(o, a)
	return a
}

// newRequest returns the HTTP request of an op.
func newRequest(ctx context.Context, base string, t trip, o *op) (*http.Request, error) {
	method, address := http.MethodPost, base+"/v1/rides"
	switch {
	case o.Cancel != "":
		address += "/" + o.Cancel + "/cancel"
	case o.Ride != "":
		method, address = http.MethodGet, address+"/"+o.Ride
	case o.Look:
		method, address = http.MethodGet, address+"?idempotency_key="+url.QueryEscape(t.key)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	if !o.Look {
		// The body cannot be read twice. Otherwise net/http would send a
		// request with an Idempotency-Key again by itself, without a trace in
		// the history.
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader([]byte(o.Sent))), int64(len(o.Sent))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", o.Key)
	}
	if o.Async {
		request.Header.Add("Prefer", "respond-async")
	}
	if o.Wait > 0 {
		request.Header.Add("Prefer", fmt.Sprint("wait=", o.Wait))
	}
	request.Header.Set("Authorization", "Bearer "+t.account.apiKey)
	return request, nil
}

// exchange sends a request and returns the answer.
func (c *client) exchange(request *http.Request) answer {
	response, err := c.httpClient.Do(request)
	if err != nil {
		return answer{Err: err.Error()}
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{Err: "reading the answer " + response.Status + ": " + err.Error()}
	}
	a := answer{Status: response.StatusCode, Body: string(body)}
	var problem struct {
		Code      string
		Retryable bool
	}
	if a.Status >= http.StatusBadRequest && json.Unmarshal(body, &problem) == nil {
		a.Code, a.Retryable = problem.Code, problem.Retryable
	}
	return a
}

// firstOf returns an answer with a list of rides as one with the first ride,
// byte for byte. Its body is empty if the list is.
func firstOf(a answer) answer {
	var list struct{ Data []json.RawMessage }
	if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
		return answer{Status: a.Status, Err: "reading the list: " + err.Error()}
	}
	a.Body = ""
	if len(list.Data) > 0 {
		a.Body = string(list.Data[0])
	}
	return a
}
