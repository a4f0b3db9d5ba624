package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest that the API lets a request wait for a ride.
const maxWait = 30 * time.Second

// NewRide is a wish for a ride.
type NewRide struct {
	Origin Point `json:"origin"`
	Target Point `json:"target"`
	// CallbackURL is an https address that is told when the ride ends. ""
	// means none. See [ReadCallback].
	CallbackURL string `json:"callback_url,omitempty"`
	// Key is the idempotency key, new for each ride that a person wants: see
	// [NewKey]. "" makes one for this call.
	Key string `json:"-"`
	// Async returns the ride as soon as it is recorded, pending; the service
	// charges for it afterwards. See [Client.Wait].
	Async bool `json:"-"`
}

// An Answer is a ride, and how the API answered a call that changes something.
type Answer struct {
	Ride Ride
	// Key is the idempotency key of the call, also if the client made it.
	Key string
	// Replayed means that an earlier request with the same key brought the
	// answer about: one of this call, whose answer was lost, or one of another.
	Replayed bool
	// Pending means that what was asked for goes on by itself, and the ride
	// shows how far it has come.
	Pending bool
	// RequestID names the request in the log of the API.
	RequestID string
	// Attempts is how often the request was sent.
	Attempts int
}

// Create hails a ride and charges for it. It returns when the ride is charged,
// or, with Async, recorded. A ride that was declined is an error: a *[Problem]
// with the status 402. In any case [Answer] or [Error] has the key.
func (c *Client) Create(ctx context.Context, ride NewRide) (Answer, error) {
	body, err := json.Marshal(ride)
	if err != nil { // NaN and infinity have no JSON
		return Answer{}, &Error{Op: "hailing a ride", Key: ride.Key, Err: err}
	}
	request := call{op: "hailing a ride", method: http.MethodPost, path: "/v1/rides", key: ride.Key, body: body}
	if ride.Async {
		request.prefer = "respond-async"
	}
	return c.change(ctx, request)
}

// Cancel gives all of a ride's fare back and cancels the ride. key is the
// idempotency key of the wish to cancel, not that of the ride; "" makes one. If
// Stripe holds the refund, the answer is Pending, and [Client.Wait] returns
// when it is decided.
func (c *Client) Cancel(ctx context.Context, id, key string) (Answer, error) {
	request := call{op: "canceling a ride", method: http.MethodPost, key: key, body: []byte("{}")}
	if id == "" {
		return Answer{}, &Error{Op: request.op, Key: key, Err: errNoID}
	}
	request.path = ridePath(id) + "/cancel"
	return c.change(ctx, request)
}

// change sends a request that changes something, under its key or a new one.
func (c *Client) change(ctx context.Context, request call) (Answer, error) {
	request.key = cmp.Or(request.key, NewKey())
	if err := checkKey(request.key); err != nil {
		return Answer{}, &Error{Op: request.op, Key: request.key, Err: err}
	}
	ride, got, err := c.ride(ctx, request)
	if err != nil {
		return Answer{Key: request.key}, err
	}
	return Answer{
		Ride: ride, Key: request.key, Attempts: got.attempts,
		Replayed:  got.header.Get("Idempotent-Replayed") == "true",
		Pending:   got.status == http.StatusAccepted,
		RequestID: got.header.Get("Request-Id"),
	}, nil
}

// Get returns a ride by its id.
func (c *Client) Get(ctx context.Context, id string) (Ride, error) {
	ride, _, err := c.get(ctx, id, "")
	return ride, err
}

// Wait returns a ride when it is at rest (see [Ride.AtRest]). It waits for as
// long as ctx lasts, without polling: the API holds each request until the ride
// is at rest, for at most 30 seconds.
func (c *Client) Wait(ctx context.Context, id string) (Ride, error) {
	var prefer string
	// Half of the time-out is for everything else.
	if seconds := int(min(maxWait, c.timeout/2) / time.Second); seconds > 0 {
		prefer = "wait=" + strconv.Itoa(seconds)
	}
	for early := 1; ; early++ {
		ride, got, err := c.get(ctx, id, prefer)
		if err != nil || ride.AtRest() {
			return ride, err
		}
		if strings.Contains(got.header.Get("Preference-Applied"), "wait") {
			early = 1 // else the API is full or stops, and answers at once
		}
		if err := c.pause(ctx, c.retry.pauseAfter(early)); err != nil {
			return ride, &Error{Op: "waiting for a ride", Attempts: got.attempts, GaveUp: "the context has ended", Err: err}
		}
	}
}

func (c *Client) get(ctx context.Context, id, prefer string) (Ride, answered, error) {
	request := call{op: "reading a ride", method: http.MethodGet, prefer: prefer}
	if id == "" {
		return Ride{}, answered{}, &Error{Op: request.op, Err: errNoID}
	}
	request.path = ridePath(id)
	return c.ride(ctx, request)
}

// ride sends a request that is answered with a ride.
func (c *Client) ride(ctx context.Context, request call) (Ride, answered, error) {
	var result oneRide
	got, err := c.do(ctx, request, &result)
	return result.Ride, got, err
}

// oneRide is an answer that must be a ride. A JSON document of another kind,
// such as a proxy's, is an answer that can't be read.
type oneRide struct{ Ride }

// UnmarshalJSON implements json.Unmarshaler.
func (r *oneRide) UnmarshalJSON(body []byte) error {
	r.Ride = Ride{} // an earlier attempt may have left half of one
	if err := json.Unmarshal(body, &r.Ride); err != nil {
		return err
	}
	if r.Object != "ride" || r.ID == "" {
		return errors.New("it is not a ride")
	}
	return nil
}

// ListOptions say which rides to list.
type ListOptions struct {
	// Key lists only the ride that was hailed with this idempotency key.
	Key string
	// After begins after the ride with this id. "" begins with the newest.
	After string
	// PageSize is how many rides are read at a time, 1 to 100. 0 means 100.
	PageSize int
}

// List returns the account's rides, newest first. It reads a page when the one
// before is used up. After an error it yields nothing more.
//
//	for ride, err := range rides.List(ctx, client.ListOptions{}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(ride.ID, ride.Status)
//	}
func (c *Client) List(ctx context.Context, options ListOptions) iter.Seq2[Ride, error] {
	return func(yield func(Ride, error) bool) {
		after := options.After
		for {
			page, err := c.page(ctx, options, after)
			if err != nil {
				yield(Ride{}, err)
				return
			}
			for _, ride := range page.Data {
				if !yield(ride, nil) {
					return
				}
				after = ride.ID
			}
			if !page.HasMore {
				return
			}
		}
	}
}

// A ridePage is an answer that must be a page of rides.
type ridePage struct {
	Object  string `json:"object"`
	Data    []Ride `json:"data"`
	HasMore bool   `json:"has_more"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *ridePage) UnmarshalJSON(body []byte) error {
	type plain ridePage // without this method
	var read plain
	if err := json.Unmarshal(body, &read); err != nil {
		return err
	}
	if read.Object != "list" || read.HasMore && len(read.Data) == 0 {
		return errors.New("it is not a page of rides")
	}
	*p = ridePage(read)
	return nil
}

func (c *Client) page(ctx context.Context, options ListOptions, after string) (ridePage, error) {
	query := url.Values{"limit": {strconv.Itoa(cmp.Or(options.PageSize, 100))}}
	if options.Key != "" {
		query.Set("idempotency_key", options.Key)
	}
	if after != "" {
		query.Set("starting_after", after)
	}
	var page ridePage
	_, err := c.do(ctx, call{op: "listing rides", method: http.MethodGet, path: "/v1/rides", query: query}, &page)
	return page, err
}

// errNoID keeps a call without an id from reading the list.
var errNoID = errors.New("there is no id of a ride")

// ridePath returns the path of a ride.
func ridePath(id string) string { return "/v1/rides/" + url.PathEscape(id) }
