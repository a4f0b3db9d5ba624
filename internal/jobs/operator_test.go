package jobs

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/riverqueue/river"
)

// An operator sees what isn't delivered, and makes dead jobs due again; each
// time that is recorded.
func TestOperatorsRetryDeadJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 3)
	failing := b.client(t, nil, func(ctx context.Context, job delivery[Receipt]) error {
		if job.ID == "job_2" {
			return river.JobCancel(errors.New("no such address"))
		}
		return b.deliver(ctx, job)
	})
	if _, err := failing.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stage(t, "later_", 1)
	all := Jobs{Pool: b.pool}
	records, err := all.List(t.Context(), false, 10)
	if err != nil {
		t.Fatal(err)
	}
	dead := Record{Job: "job_2", Kind: "receipt", Account: "acct_2", Key: "job_2", State: "dead", Attempts: 1, LastError: "JobCancelError: no such address"}
	want := []Record{dead, {Job: "later_1", Kind: "receipt", Account: "acct_1", Key: "later_1", State: "staged"}}
	if diff := cmp.Diff(want, records, cmpopts.IgnoreFields(Record{}, "ID", "StagedAt", "DueAt")); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if only, err := all.List(t.Context(), true, 10); err != nil || len(only) != 1 || only[0].ID != records[0].ID {
		t.Errorf("the dead jobs are %+v (%v)", only, err)
	}
	for name, id := range map[string]int64{
		"unknown": 999, "delivered": value[int64](t, b, `SELECT min(id) FROM river.river_job WHERE state = 'completed'`),
	} {
		if err := all.Retry(t.Context(), id, "ann"); !errors.Is(err, ErrNotRetried) {
			t.Errorf("retrying one that is %s: %v", name, err)
		}
	}
	if err := all.Retry(t.Context(), records[0].ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if got := value[string](t, b, `SELECT account_id || ' ' || action || ' ' || (data ->> 'job') || ' ' || (data ->> 'by') FROM audit_records`); got != "acct_2 job.retried job_2 ann" {
		t.Errorf("recorded is %q", got)
	}
	counts, err := b.client(t, nil, b.deliver).Once(t.Context())
	if err != nil || counts != (Counts{Relayed: 1, Delivered: 2}) {
		t.Errorf("the next round did %+v (%v)", counts, err)
	}
}

// However many jobs are dead, all of them can be retried.
func TestAllDeadJobsAreFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `
		INSERT INTO river.river_job (kind, args, max_attempts, state, finalized_at)
		SELECT 'receipt/1', '{}', 1, CASE i % 3 WHEN 0 THEN 'completed' WHEN 1 THEN 'cancelled' ELSE 'discarded' END::river.river_job_state, now()
		FROM generate_series(1, 30000) i`)
	ids, err := Jobs{Pool: b.pool}.Dead(t.Context())
	if err != nil || len(ids) != 20000 || !slices.IsSorted(ids) {
		t.Errorf("%d jobs are dead (%v), want 20,000", len(ids), err)
	}
}

// River's pages work below their prefix and without the network, and refuse
// what another site sends.
func TestPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 1)
	c := b.client(t, nil, b.deliver)
	if _, err := c.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	pages, err := c.Page(t.Context(), "/jobs")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body, site string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		request.Header.Set("Sec-Fetch-Site", site)
		pages.ServeHTTP(answer, request)
		return answer
	}
	if got := ask("GET", "/jobs/", "", "none"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "<title>River</title>") {
		t.Errorf("the page is %d %s", got.Code, got.Body)
	}
	if got := ask("GET", "/jobs/api/jobs?state=completed", "", "same-origin"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), `"receipt/1"`) {
		t.Errorf("the list is %d %s", got.Code, got.Body)
	}
	if got := ask("POST", "/jobs/api/jobs/delete", `{"ids":["1"]}`, "cross-site"); got.Code != http.StatusForbidden {
		t.Errorf("another site is answered with %d %s", got.Code, got.Body)
	}
	if got := ask("POST", "/jobs/api/jobs/delete", `{"ids":["1"]}`, "same-origin"); got.Code != http.StatusOK {
		t.Errorf("the page's own request is answered with %d %s", got.Code, got.Body)
	}
}
