package crash

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// checkNoTransaction checks a process that is about to ask Stripe. If only one
// worker runs in it, no connection may be in use.
func (r *run) checkNoTransaction(p *process) {
	r.mu.Lock()
	alone := r.active[p] == 1
	r.mu.Unlock()
	if !alone {
		return
	}
	violation := ""
	if !comesTrue(func() bool { return p.pg.Open() == 0 }) {
		violation = p.name + " has a transaction open while it asks Stripe"
	}
	if !r.polls(p) && !comesTrue(func() bool { return p.pool.Stat().AcquiredConns() == 0 }) {
		violation = p.name + " holds a connection while it asks Stripe"
	}
	r.note("I23", violation)
}

// polls reports whether a completer runs in a process, which reads what is due
// on one connection while it asks Stripe about what it has taken. In the flow of
// an event the second api has one, too.
func (r *run) polls(p *process) bool {
	return p == r.lane.worker || r.flow.event && p == r.lane.api[1]
}

// comesTrue reports whether something is so, or is soon. Only a broken
// connection needs time: it is ended in the background after its release. What
// a worker keeps it keeps for as long, because its request to Stripe waits.
func comesTrue(so func() bool) bool {
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// checkIntent compares a foreign write that arrives with the committed intent,
// and looks for what its flow stored before it. A worker that was held may send
// what its key needs no more, and when the key is finished its form is gone;
// its bytes are compared with the earlier ones at the end of the trial.
func (r *run) checkIntent(request *http.Request, body string, whole bool) {
	if request.URL.Path != r.flow.sent && !strings.HasPrefix(request.URL.Path, "/beside/") {
		return
	}
	// Its sender may be gone; the charge is checked all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(request.Context()), patience)
	defer cancel()
	var sent, form, stored bool
	var key, point string
	err := r.lane.pool.QueryRow(ctx, `
		SELECT first_sent_at <= clock_timestamp(), coalesce(foreign_form = $2, finished_at IS NOT NULL), foreign_key, recovery_point, `+r.flow.stored+`
		FROM idempotency_keys k
		WHERE account_id = $1 AND key = $3`, r.account.AccountID, body, r.key).Scan(&sent, &form, &key, &point, &stored)
	header := request.Header.Get("Idempotency-Key")
	violation := ""
	switch {
	case err != nil:
		violation = fmt.Sprintf("no committed intent: %v", err)
	case !sent || !stored:
		violation = fmt.Sprintf("sent with first_sent_at %t and what comes before it %t", sent, stored)
	case key != header && r.flow.past(point, r.account.AccountID, r.key, header):
	case whole && !form, key != header:
		violation = "the request is not what was frozen"
	}
	r.note("I5", violation)
}

// checkUnderReview checks that a parked request is answered as under review.
func (r *run) checkUnderReview(ctx context.Context) {
	r.checkRefused(ctx, "I15", "a parked request", r.flow.body, http.StatusConflict, "payment_under_review")
}

// checkOthers checks that other parameters under the key are refused.
func (r *run) checkOthers(ctx context.Context) {
	r.checkRefused(ctx, "I10", "a request with other parameters", r.flow.others, http.StatusUnprocessableEntity, "idempotency_key_reused")
}

// checkRefused sends a request that must be refused with a status and a code.
func (r *run) checkRefused(ctx context.Context, invariant, what, body string, status int, code string) {
	got := r.send(r.lane.calm, r.request(ctx, r.account, body))
	violation := ""
	if got.status != status || got.code != code {
		violation = fmt.Sprintf("%s was answered with %d %s", what, got.status, got.code)
	}
	r.note(invariant, violation)
}

// checkStranger sends an invalid request under the same key in another account,
// and asks for the ride there.
func (r *run) checkStranger(ctx context.Context) {
	violation := ""
	got := r.send(r.lane.calm, r.request(ctx, r.lane.stranger, `{}`))
	if got.code != r.flow.stranger {
		violation = fmt.Sprintf("another account's request was answered with %d %s", got.status, got.code)
	}
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/rides/"+r.last().ride().id, http.NoBody)
	request.Header.Set("Authorization", "Bearer "+r.lane.stranger.APIKey.Reveal())
	if got = r.send(r.lane.calm, request); got.status != http.StatusNotFound {
		violation = fmt.Sprintf("another account's ride was answered with %d %s", got.status, got.code)
	}
	var rows int
	err := r.lane.pool.QueryRow(ctx, `SELECT count(*) FROM idempotency_keys WHERE account_id = $1`, r.lane.stranger.AccountID).Scan(&rows)
	if err != nil || rows > 0 {
		violation = fmt.Sprintf("a refused request left %d keys, %v", rows, err)
	}
	r.note("I11", violation)
}

// sends returns the charges or refunds that arrived at Stripe as a whole, in
// order.
func (r *run) sends() []fakestripe.Send {
	var sends []fakestripe.Send
	for _, send := range r.fake.Ledger() {
		if send.Path == r.flow.sent && !send.Incomplete {
			sends = append(sends, send)
		}
	}
	return sends
}
