package crash

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// intentsPath is where charges are made.
const intentsPath = "/v1/payment_intents"

// checkNoTransaction looks at a process as it is about to write to Stripe:
// where one worker alone is busy in it, none of its connections may be.
func (r *run) checkNoTransaction(p *process) {
	r.mu.Lock()
	alone := r.active[p] == 1
	r.mu.Unlock()
	if !alone {
		return
	}
	fault := ""
	if open := p.pg.Open(); open > 0 {
		fault = fmt.Sprintf("%s has %d transactions open while it asks Stripe", p.name, open)
	}
	// A completer looks for more to do meanwhile.
	if p != r.lane.worker && !givenBack(p.pool) {
		fault = p.name + " holds a connection while it asks Stripe"
	}
	r.note("I23", fault)
}

// givenBack tells whether no connection of a pool is in use. One that broke
// leaves the pool in the background, a moment after it was given back.
func givenBack(pool *pgxpool.Pool) bool {
	for end := time.Now().Add(time.Second); pool.Stat().AcquiredConns() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// checkIntent compares a charge that arrives at Stripe with what is committed.
func (r *run) checkIntent(request *http.Request, body string, whole bool) {
	if request.URL.Path != intentsPath {
		return
	}
	// Its sender may be gone; what arrived is judged all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(request.Context()), patience)
	defer cancel()
	var sent, form, ride bool
	var key string
	err := r.lane.pool.QueryRow(ctx, `
		SELECT first_sent_at <= clock_timestamp(), foreign_form = $2, foreign_key, EXISTS (
		       SELECT FROM rides r WHERE r.account_id = k.account_id AND r.key = k.key)
		FROM idempotency_keys k
		WHERE account_id = $1`, r.who.AccountID, body).Scan(&sent, &form, &key, &ride)
	fault := ""
	switch {
	case err != nil:
		fault = fmt.Sprintf("no committed intent: %v", err)
	case !sent || !ride:
		fault = fmt.Sprintf("sent with first_sent_at %t and ride %t", sent, ride)
	case whole && !form, key != request.Header.Get("Idempotency-Key"):
		fault = "sent something else than what is frozen"
	}
	r.note("I5", fault)
}

// checkUnderReview asks for a parked request: it is under review, and never
// anything else.
func (r *run) checkUnderReview(ctx context.Context) {
	r.checkRefused(ctx, "I15", "a parked request", r.flow.body, http.StatusConflict, "payment_under_review")
}

// checkOthers sends other parameters under the key.
func (r *run) checkOthers(ctx context.Context) {
	r.checkRefused(ctx, "I10", "a request with other parameters", r.flow.others, http.StatusUnprocessableEntity, "idempotency_key_reused")
}

// checkRefused asks with a body for what must be refused in one way.
func (r *run) checkRefused(ctx context.Context, invariant, what, body string, status int, code string) {
	got := r.send(r.lane.calm, r.flow.request(ctx, r.who, body))
	fault := ""
	if got.status != status || got.code != code {
		fault = fmt.Sprintf("%s was answered with %d %s", what, got.status, got.code)
	}
	r.note(invariant, fault)
}

// checkStranger uses the key in another account, with a request that is
// refused, and asks there for the ride.
func (r *run) checkStranger(ctx context.Context) {
	fault := ""
	got := r.send(r.lane.calm, r.flow.request(ctx, r.lane.stranger, `{}`))
	if got.code != "invalid_parameters" {
		fault = fmt.Sprintf("another account's key was answered with %d %s", got.status, got.code)
	}
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/rides/"+r.last().ride().id, http.NoBody)
	request.Header.Set("Authorization", "Bearer "+r.lane.stranger.APIKey.Reveal())
	if got = r.send(r.lane.calm, request); got.status != http.StatusNotFound {
		fault = fmt.Sprintf("another account's ride was answered with %d %s", got.status, got.code)
	}
	var rows int
	err := r.lane.pool.QueryRow(ctx, `SELECT count(*) FROM idempotency_keys WHERE account_id = $1`, r.lane.stranger.AccountID).Scan(&rows)
	if err != nil || rows > 0 {
		fault = fmt.Sprintf("a refused request left %d keys, %v", rows, err)
	}
	r.note("I11", fault)
}

// charges are the charges that Stripe was asked for as a whole, in order.
func (r *run) charges() []fakestripe.Send {
	var sends []fakestripe.Send
	for _, send := range r.fake.Ledger() {
		if send.Path == intentsPath && !send.Incomplete {
			sends = append(sends, send)
		}
	}
	return sends
}
