package jobs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// keepTrying is how long a callback is tried again.
const keepTrying = 3 * 24 * time.Hour

// minPause and maxPause bound how long an endpoint is left alone that asks for
// fewer callbacks, or is overloaded, without saying how long.
const (
	minPause = 10 * time.Second
	maxPause = time.Hour
)

// keepLane is around every attempt at a callback. If there is no place for it,
// the job waits for its turn, and that costs no query.
func (c *Client) keepLane(ctx context.Context, row *rivertype.JobRow, work func(context.Context) error) error {
	var job delivery[Callback]
	if row.Kind != job.Kind() || json.Unmarshal(row.EncodedArgs, &job) != nil {
		return work(ctx)
	}
	leave, wait := c.lanes.enter(job.Account, hostOf(job.Job.URL))
	if leave == nil {
		c.metrics.observe(row.Kind, "postponed", 0)
		return river.JobSnooze(wait)
	}
	var took time.Duration
	defer func() { leave(took) }()
	start := time.Now()
	err := work(ctx)
	if !errors.As(err, new(*rivertype.JobSnoozeError)) { // else nothing was sent
		took = time.Since(start)
	}
	return err
}

// deliverCallback makes one attempt at a callback, if its endpoint takes
// callbacks at the moment. What comes of it is recorded before River is told,
// so an attempt that wasn't acknowledged there is not repeated.
func (c *Client) deliverCallback(ctx context.Context, job delivery[Callback]) error {
	host := hostOf(job.Job.URL)
	now, err := c.beginCallback(ctx, job, host)
	switch {
	case err != nil:
		return err
	case now.status == statusDelivered:
		return errDelivered
	case now.status != statusPending:
		return fmt.Errorf("%w: the callback is %s", errEnded, now.status)
	case now.switchedOff:
		return c.endCallback(ctx, job, host, result{status: statusGivenUp, why: "the endpoint is switched off"})
	case now.pause > 0:
		// Those that wait together don't come back together.
		return river.JobSnooze(now.pause + rand.N(now.pause/4+time.Second)) //nolint:gosec // spreading load needs no secrecy
	}
	start := time.Now()
	answer, err := c.sender.Send(trace.FromStored(ctx, job.Trace), callbacks.Message{
		URL: now.url, ID: callbackID(job.Account, job.Key, job.Job.Type), At: now.at, Body: now.body, Secrets: now.secrets,
	})
	trace.LineOf(ctx).AddForeign(time.Since(start))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("sending the callback: %w", ctx.Err()) // this process ends, and the receiver did nothing wrong
	}
	return c.endCallback(ctx, job, host, judge(answer, err, now.failingFor))
}

// A result is what came of an attempt.
type result struct {
	status     status
	httpStatus int    // 0 without an answer
	why        string // it failed; "" if httpStatus says it
	// pause is how long the endpoint is left alone.
	pause time.Duration
}

// judge returns what an answer, or an error, means. failingFor is how long the
// endpoint had been failing when the attempt began. An overloaded one is left
// alone for that long again. The number of its failures would say little: many
// callbacks are sent at once, and fail together.
func judge(answer callbacks.Answer, err error, failingFor time.Duration) result {
	switch {
	case errors.Is(err, callbacks.ErrRefused):
		return result{status: statusRefused, why: err.Error()}
	case err != nil:
		return result{status: statusPending, why: err.Error()}
	case answer.Status/100 == 2:
		return result{status: statusDelivered, httpStatus: answer.Status}
	case answer.Status == http.StatusGone:
		return result{status: statusGone, httpStatus: answer.Status}
	}
	failed := result{status: statusPending, httpStatus: answer.Status, pause: answer.RetryAfter}
	switch answer.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		failed.pause = cmp.Or(failed.pause, min(max(failingFor, minPause), maxPause))
	}
	return failed
}

// text says what the attempt came to.
func (r result) text() string {
	if r.httpStatus != 0 {
		return fmt.Sprintf("the receiver answered %d", r.httpStatus)
	}
	return r.why
}

// callbackID returns the webhook-id of a callback. It is a pure function of
// what the callback tells, so that it stays the same however often it is sent.
func callbackID(account, key, event string) string {
	digest := phases.Digest("callback", account, key, event)
	return "msg_" + hex.EncodeToString(digest[:16])
}

// body returns the body of a callback that was staged at this time.
func (c Callback) body(at time.Time) []byte {
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"type":%q,"timestamp":"%s","data":%s}`,
		c.Type, at.UTC().Format("2006-01-02T15:04:05.000000Z"), strings.TrimSpace(c.Ride))
	return body.Bytes()
}

// isRecorded reports whether the job was staged by restage: it has no ride, and
// only the callback's record has what is sent.
func (c Callback) isRecorded() bool { return c.Ride == "null" }

// hostOf returns the host of a URL, with a port that isn't the usual one.
// Together with the account it names an endpoint.
func hostOf(address string) string {
	target, err := url.Parse(address)
	if err != nil {
		return "" // it is refused when it is sent
	}
	host := strings.TrimSuffix(strings.ToLower(target.Hostname()), ".")
	if port := target.Port(); port != "" && port != map[string]string{"https": "443", "http": "80"}[target.Scheme] {
		host += ":" + port
	}
	return host
}
