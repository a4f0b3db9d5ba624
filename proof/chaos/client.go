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
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long a client waits for an answer.
	patience = 8 * time.Second
	// tries is how often a client asks again before it gives up.
	tries = 14
)

// An account is one client's at the service.
type account struct {
	id, apiKey, customer string
	declined             bool // its card is
}

// A rank is all clients together.
type rank struct {
	apis     []string // the links to the apis
	urls     map[string]string
	accounts []*account
	client   *http.Client
	requests atomic.Int64

	mu sync.Mutex
	// recent are keys that may be asked for again, by anybody.
	recent []trip
}

// A trip is a key and what is asked under it.
type trip struct {
	account *account
	key     string
	lat     float64
}

// body is the request of a variant.
func (t trip) body(v variant) string {
	lat := fmt.Sprintf("%.5f", t.lat+float64(v)/100)
	if v == invalid {
		lat = "99"
	}
	return `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":` + lat + `,"lon":-122.2712}}`
}

func newRank(apis []string, urls map[string]string, accounts []*account) *rank {
	return &rank{
		apis: apis, urls: urls, accounts: accounts,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}},
	}
}

// A rider is one client.
type rider struct {
	*rank
	id      int
	journal *journal
	trips   int

	mu     sync.Mutex
	random *rand.Rand
}

func newRider(r *rank, seed uint64, id int, j *journal) *rider {
	return &rider{rank: r, id: id, journal: j, random: rand.New(rand.NewPCG(seed, 1000+uint64(id)))} //nolint:gosec // it must repeat, not surprise
}

// roll draws from 0 to n-1. A rider's requests run side by side.
func (r *rider) roll(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

// about draws a pause around d: from half of it to half more.
func (r *rider) about(d time.Duration) time.Duration {
	return d/2 + time.Duration(r.roll(int(d)))
}

// newTrip makes up a key.
func (r *rider) newTrip() trip {
	r.trips++
	return trip{
		account: r.accounts[r.roll(len(r.accounts))],
		key:     fmt.Sprintf("ride-%d-%d", r.id, r.trips),
		lat:     37.8 + float64(r.roll(50_000))/100_000,
	}
}

// again returns a key that somebody has asked for lately.
func (r *rider) again() (trip, bool) {
	r.rank.mu.Lock()
	defer r.rank.mu.Unlock()
	if len(r.recent) == 0 {
		return trip{}, false
	}
	return r.recent[r.roll(len(r.recent))], true
}

func (r *rider) remember(t trip) {
	const most = 2000
	r.rank.mu.Lock()
	defer r.rank.mu.Unlock()
	if len(r.recent) < most {
		r.recent = append(r.recent, t)
		return
	}
	r.recent[r.roll(most)] = t
}

// A wish is how a request is made.
type wish struct {
	variant variant
	async   bool
	leave   time.Duration // when the client closes the socket; 0: it doesn't
}

// hail asks for the trip, once, at one of the apis.
func (r *rider) hail(ctx context.Context, t trip, w wish) answer {
	o := &op{Account: t.account.id, Key: t.key, Variant: w.variant, Async: w.async, Sent: t.body(w.variant)}
	return r.send(ctx, t, o, w.leave)
}

// look asks how the trip stands.
func (r *rider) look(ctx context.Context, t trip) {
	r.send(ctx, t, &op{Account: t.account.id, Key: t.key, Look: true}, 0)
}

// send makes one request and notes it. A request that has left is waited for,
// even if the run is ending.
func (r *rider) send(ctx context.Context, t trip, o *op, leave time.Duration) answer {
	limit := patience
	if leave > 0 {
		limit = leave
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	o.Via = r.apis[r.roll(len(r.apis))]
	request, err := newRequest(ctx, r.urls[o.Via], t, o)
	if err != nil {
		return answer{Err: err.Error()}
	}
	r.requests.Add(1)
	r.journal.invoke(o)
	a := r.exchange(request)
	if o.Look && a.Status == http.StatusOK {
		a = firstOf(a)
	}
	r.journal.back(o, a)
	return a
}

func newRequest(ctx context.Context, base string, t trip, o *op) (*http.Request, error) {
	method, address := http.MethodPost, base+"/v1/rides"
	if o.Look {
		method, address = http.MethodGet, address+"?idempotency_key="+url.QueryEscape(t.key)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	if !o.Look {
		// A body that can't be read twice: net/http would send a request with
		// an Idempotency-Key again by itself, and the history would not know.
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader([]byte(o.Sent))), int64(len(o.Sent))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", t.key)
	}
	if o.Async {
		request.Header.Set("Prefer", "respond-async")
	}
	request.Header.Set("Authorization", "Bearer "+t.account.apiKey)
	return request, nil
}

func (r *rider) exchange(request *http.Request) answer {
	response, err := r.client.Do(request)
	if err != nil {
		return answer{Err: err.Error()}
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{Err: "reading the answer " + response.Status + ": " + err.Error()}
	}
	a := answer{Status: response.StatusCode, Body: string(body)}
	var problem struct{ Code string }
	if a.Status >= http.StatusBadRequest && json.Unmarshal(body, &problem) == nil {
		a.Code = problem.Code
	}
	return a
}

// firstOf turns an answer with a list into one with its ride: byte for byte, or
// empty.
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
