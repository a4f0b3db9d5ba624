package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxBody is the most that is read of an answer. The longest page of rides has
// a third of it.
const maxBody = 1 << 20

// A call is a request that may be sent several times, always with the same
// bytes.
type call struct {
	op     string // what it does, for errors
	method string
	path   string
	query  url.Values
	key    string // "" for a call that only reads
	body   []byte
	prefer string
}

// An answered is the answer to a call.
type answered struct {
	status   int
	header   http.Header
	attempts int
}

// do sends a request until it is answered, or can't be any more, and decodes
// the answer into result. All of its errors are *Error.
func (c *Client) do(ctx context.Context, call call, result any) (answered, error) {
	for n := 1; ; n++ {
		got, err := c.attempt(ctx, call, result)
		got.attempts = n
		if err == nil {
			c.retry.Budget.answered()
			return got, nil
		}
		failed := &Error{Op: call.op, Key: call.key, Attempts: n, Err: err}
		if !mayChange(err) { // also if the context has ended since: this is the outcome
			c.retry.Budget.answered()
			return got, failed
		}
		if ctx.Err() != nil {
			failed.GaveUp = "the context has ended"
			return got, failed
		}
		wait, why := c.another(ctx, n, err)
		if why != "" {
			failed.GaveUp = why
			return got, failed
		}
		if ended := c.pause(ctx, wait); ended != nil {
			failed.GaveUp, failed.Err = "the context has ended", fmt.Errorf("%w; before that: %w", ended, err)
			return got, failed
		}
	}
}

// attempt sends the request once. The error is a *Problem, or says why there is
// no answer that can be read.
func (c *Client) attempt(ctx context.Context, call call, result any) (answered, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := c.request(ctx, call)
	if err != nil {
		return answered{}, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return answered{}, err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	got := answered{status: response.StatusCode, header: response.Header}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = errors.New("it is too long")
	}
	if err != nil {
		return got, fmt.Errorf("reading the answer %s: %w", response.Status, err)
	}
	if response.StatusCode/100 != 2 {
		return got, readProblem(response, body, time.Now())
	}
	if err := json.Unmarshal(body, result); err != nil {
		return got, fmt.Errorf("reading the answer %s: %w", response.Status, err)
	}
	return got, nil
}

// request returns the HTTP request of a call.
func (c *Client) request(ctx context.Context, call call) (*http.Request, error) {
	target := c.base.JoinPath(call.path)
	target.RawQuery = call.query.Encode()
	request, err := http.NewRequestWithContext(ctx, call.method, target.String(), bytes.NewReader(call.body))
	if err != nil {
		return nil, err
	}
	c.authorize(request.Header)
	request.Header.Set("Accept", "application/json, application/problem+json")
	request.Header.Set("User-Agent", "rocketrides-go")
	if call.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if call.key != "" {
		request.Header.Set("Idempotency-Key", fieldOf(call.key))
	}
	if call.prefer != "" {
		request.Header.Set("Prefer", call.prefer)
	}
	return request, nil
}
