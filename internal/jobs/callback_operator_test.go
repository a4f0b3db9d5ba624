package jobs

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// A callback is sent again under its own id, whether it was delivered or given
// up, and one that waits for its next attempt gets it at once.
func TestCallbacksAreSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	status := http.StatusInternalServerError
	r := newReceiver(t, func(w http.ResponseWriter, _ received) { w.WriteHeader(status) })
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	once(t, b.callbackClient(t))
	first := r.check(t, 1)[0]
	operator := Callbacks{Pool: b.pool}
	resend := func() {
		t.Helper()
		if err := operator.Resend(t.Context(), first.id, "ann"); err != nil {
			t.Fatal(err)
		}
		once(t, b.callbackClient(t))
	}
	resend() // it waits for its second attempt
	r.check(t, 2)
	b.exec(t, `UPDATE callbacks SET status = 'given_up', ended_at = now(), retry_until = now() - interval '1 day'`)
	b.exec(t, `DELETE FROM river.river_job`)
	resend() // and fails, but isn't given up at once
	if got := value[string](t, b, `SELECT status FROM callbacks`); got != "pending" {
		t.Errorf("after a failure it is %s", got)
	}
	r.mu.Lock()
	status = http.StatusOK
	r.mu.Unlock()
	resend()
	resend() // it was delivered
	for _, again := range r.check(t, 5) {
		if again.id != first.id || again.body != first.body {
			t.Errorf("it was sent as %s %s, first as %s %s", again.id, again.body, first.id, first.body)
		}
	}
	if records, err := operator.List(t.Context(), true, 10); err != nil || len(records) != 0 {
		t.Errorf("%+v, %v", records, err)
	}
	if err := operator.Resend(t.Context(), "msg_none", "ann"); !errors.Is(err, ErrNoCallback) {
		t.Errorf("one that isn't there: %v", err)
	}
}

// A job whose process died before River heard of its end runs once more. If it
// was staged to send an old callback again, only the callback's record has the
// body, so the record outlives the end of the callback; and without it, nothing is
// sent.
func TestACallbackIsSentAgainFromItsRecordOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	c := b.callbackClient(t)
	once(t, c)
	first := r.check(t, 1)[0]
	b.exec(t, `DELETE FROM river.river_job`) // River keeps what is done for a day
	b.exec(t, `UPDATE callbacks SET created_at = now() - interval '31 days', ended_at = now() - interval '31 days'`)
	if err := (Callbacks{Pool: b.pool}).Resend(t.Context(), first.id, "ann"); err != nil {
		t.Fatal(err)
	}
	once(t, b.callbackClient(t))
	r.check(t, 2)
	rescued := func(when string) {
		t.Helper()
		b.exec(t, `UPDATE river.river_job SET state = 'available', finalized_at = NULL, attempt = 0, metadata = '{}', scheduled_at = now()`)
		once(t, b.callbackClient(t))
		for _, got := range r.check(t, 2) {
			if got.id != first.id || got.body != first.body {
				t.Errorf("%s it is sent as %s %s, first as %s %s", when, got.id, got.body, first.id, first.body)
			}
		}
		if got := value[string](t, b, `SELECT string_agg(state::text, ' ') FROM river.river_job`); got != "completed" {
			t.Errorf("%s the job is %s", when, got)
		}
	}
	if err := c.deleteOldCallbacks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM callbacks`); n != 1 {
		t.Errorf("%d records are left", n)
	}
	rescued("with its record")
	b.exec(t, `DELETE FROM callbacks`)
	rescued("without its record")
}

// An endpoint that was switched off gets callbacks again when an operator says
// so, and only that one does.
func TestEndpointsAreSwitchedOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	host := strings.TrimPrefix(r.URL, "http://")
	for _, account := range []string{"acct_1", "acct_2"} {
		b.addAccount(t, account)
		b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failures, switched_off_at) VALUES ($1, $2, 9, now())`, account, host)
	}
	operator := Callbacks{Pool: b.pool}
	if err := operator.Enable(t.Context(), "acct_1", host, "ann"); err != nil {
		t.Fatal(err)
	}
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	b.stageCallbacks(t, "acct_2", "k", r.URL, 1)
	once(t, b.callbackClient(t))
	r.check(t, 1)
	b.checkCallbacks(t, "delivered after 1: 200, completed; given_up after 1: the endpoint is switched off, completed")
	if err := operator.Enable(t.Context(), "acct_1", host, "ann"); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("one that is on: %v", err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'callbacks.enabled' AND data ->> 'by' = 'ann'`); n != 1 {
		t.Errorf("there are %d records", n)
	}
	if endpoints, err := operator.Endpoints(t.Context(), 10); err != nil || len(endpoints) != 1 || endpoints[0].Account != "acct_2" {
		t.Errorf("%+v, %v", endpoints, err)
	}
}

// Clients name hosts as they like, so what an operator must see is not below all
// that has failed once.
func TestSwitchedOffEndpointsAreListedFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failing_since, failed_at, failures, switched_off_at) VALUES
		('acct_1', 'once.example', now() - interval '20 days', now() - interval '20 days', 1, NULL),
		('acct_1', 'off.example', now() - interval '6 days', now() - interval '1 day', 9, now() - interval '1 day'),
		('acct_1', 'new.example', now(), now(), 1, NULL)`)
	endpoints, err := Callbacks{Pool: b.pool}.Endpoints(t.Context(), 2)
	if err != nil || len(endpoints) != 2 || endpoints[0].Host != "off.example" || endpoints[1].Host != "once.example" {
		t.Errorf("%+v, %v", endpoints, err)
	}
}
