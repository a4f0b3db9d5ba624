package commands

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/jobs"
)

// A receipt that the mail server doesn't take is listed with the reason. When
// it is dead, an operator can have it tried again.
func TestCompleterJobs(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if got := s.hail(s.start(t, "api"), "k"); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := s.must(t, "completer", "jobs", "list"); !regexp.MustCompile(`(?m)^- +receipt +acct_\w+ +k +0 .* staged`).MatchString(got) {
		t.Errorf("jobs list prints %s", got)
	}
	unreachable := []string{"--smtp-url=smtp://127.0.0.1:1?starttls=never", "--mail-from=receipts@example.com"}
	if got := s.must(t, "completer", append([]string{"once"}, unreachable...)...); !strings.Contains(got, "jobs: relayed 1, delivered 0, failed 1\n") {
		t.Errorf("once prints %s", got)
	}
	list := func(flags ...string) []jobs.Record {
		t.Helper()
		var records []jobs.Record
		if err := json.Unmarshal([]byte(s.must(t, "completer", append([]string{"jobs", "list", "--json"}, flags...)...)), &records); err != nil {
			t.Fatal(err)
		}
		return records
	}
	waiting := list()
	if len(waiting) != 1 || waiting[0].State != "waiting" || !strings.Contains(waiting[0].LastError, "connecting to the mail server") {
		t.Fatalf("the jobs are %+v", waiting)
	}
	if dead := list("--dead"); len(dead) != 0 {
		t.Errorf("the dead jobs are %+v", dead)
	}
	s.exec(t, `UPDATE river.river_job SET state = 'discarded', finalized_at = now(), attempt = max_attempts`)
	if got := s.must(t, "completer", "once"); !strings.HasSuffix(got, "1 job is dead and waits for a person: see completer jobs list --dead\n") {
		t.Errorf("once prints %s", got)
	}
	if dead := list("--dead"); len(dead) != 1 || dead[0].State != "dead" {
		t.Errorf("the dead jobs are %+v", dead)
	}
	if got := s.must(t, "completer", "jobs", "retry", "--dead"); got != "1 job is due now: the completer takes it next\n" {
		t.Errorf("jobs retry prints %s", got)
	}
	if n := number(t, s, `SELECT count(*) FROM audit_records WHERE action = 'job.retried' AND data ->> 'by' = 'ann'`); n != 1 {
		t.Errorf("%d records", n)
	}
	if code, _, stderr := s.run(t, "completer", "jobs", "retry", "1", "99"); code != 1 || stderr != "completer: after 1 other: retrying job 99: "+jobs.ErrNotRetried.Error()+"\n" {
		t.Errorf("retrying a job that there isn't exits with %d: %s", code, stderr)
	}
	if got := s.must(t, "completer", "jobs", "retry", "--dead"); got != "no job is dead\n" {
		t.Errorf("jobs retry prints %s", got)
	}
	if code, _, stderr := s.run(t, "completer", "jobs", "retry", "99"); code != 1 || stderr != "completer: retrying job 99: "+jobs.ErrNotRetried.Error()+"\n" {
		t.Errorf("retrying nothing but a job that there isn't exits with %d: %s", code, stderr)
	}
	if got := s.must(t, "completer", "once"); !strings.Contains(got, "jobs: relayed 0, delivered 1, failed 0\n") {
		t.Errorf("once prints %s", got)
	}
	if code, _, stderr := s.run(t, "completer", "jobs", "retry", "1"); code != 1 || !strings.Contains(stderr, "it is delivered") {
		t.Errorf("retrying a job that is delivered exits with %d: %s", code, stderr)
	}
	for _, wrong := range [][]string{
		{"jobs", "retry"},
		{"jobs", "retry", "1", "--dead"},
		{"jobs", "list", "--limit=0"},
		{"once", "--job-timeout=0s"},
		{"once", "--job-concurrency=0"},
		unreachable[:1],
		{"--smtp-url=localhost", unreachable[1]},
	} {
		if code, _, stderr := s.run(t, "completer", wrong...); code != 2 {
			t.Errorf("%q exits with %d: %s", wrong, code, stderr)
		}
	}
}

// The daemon delivers soon after the end of the ride, shows jobs and their
// figures on its admin address, and listens for no notification.
func TestCompleterDelivers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	completer := s.start(t, "completer", "POLL=1s")
	if got := s.hail(s.start(t, "api"), "k"); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	ended := time.Now()
	waitFor(t, "the receipt is delivered", 20*time.Second, func() bool {
		return number(t, s, `SELECT count(*) FROM river.river_job WHERE state = 'completed'`) == 1
	})
	t.Logf("delivered after %s", time.Since(ended).Round(time.Millisecond))
	for path, want := range map[string]int{"/jobs": 301, "/jobs/": 200, "/jobs/api/states": 200, "/healthz": 200, "/other": 404} {
		if got := get(t, completer.admin+path); got != want {
			t.Errorf("%s is answered with %d, want %d", path, got, want)
		}
	}
	waitFor(t, "the figures are there", 20*time.Second, func() bool {
		_, body := fetch(t, completer.admin+"/metrics")
		return strings.Contains(body, "rides_jobs_dead 0\n") && strings.Contains(body, "rides_jobs_relayed_total 1\n") &&
			strings.Contains(body, `rides_jobs_attempt_seconds_count{kind="receipt/1",result="delivered"} 1`)
	})
	if n := number(t, s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%'`); n != 0 {
		t.Errorf("%d sessions listen", n)
	}
}
