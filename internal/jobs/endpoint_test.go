package jobs

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/inbox"
)

// A host that asks for time, or is overloaded, gets nothing more of that
// account until the time is over. Another account's callbacks to the same host
// are sent, because what one account's path answers says nothing of another's.
func TestSlowHostsArePaused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer      func(http.ResponseWriter, received)
		least, most time.Duration // of the pause
	}{
		"429":                         {answering(429), 10 * time.Second, 10 * time.Second},
		"502":                         {answering(502), 10 * time.Second, 10 * time.Second},
		"504":                         {answering(504), 10 * time.Second, 10 * time.Second},
		"429 with Retry-After":        {answering(429, "Retry-After", "3600"), time.Hour, time.Hour},
		"503 with Retry-After":        {answering(503, "Retry-After", "120"), 2 * time.Minute, 2 * time.Minute},
		"502 with a long Retry-After": {answering(502, "Retry-After", "4000000000"), 24 * time.Hour, 24 * time.Hour},
		"429 with an empty one":       {answering(429, "Retry-After", "0"), 10 * time.Second, 10 * time.Second},
		"500":                         {answering(500), 0, 0},
		"503":                         {answering(503), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, c.answer)
			b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
			client := b.callbackClient(t)
			once(t, client)
			r.check(t, 1)
			paused := value[float64](t, b, `
				SELECT coalesce(extract(epoch FROM paused_until - failed_at), 0)::float8 FROM callback_endpoints`)
			if paused < c.least.Seconds() || paused > c.most.Seconds() {
				t.Errorf("it is paused for %v seconds", paused)
			}
			b.stageCallbacks(t, "acct_1", "later", r.URL, 1)
			b.retryNow(t)
			again := 3
			if c.most > 0 {
				again = 1
			}
			once(t, b.callbackClient(t))
			r.check(t, again)
			if c.most > 0 && value[int](t, b, `SELECT count(*) FROM river.river_job
				WHERE scheduled_at > (SELECT paused_until FROM callback_endpoints) - interval '1 second' AND attempt <= 1`) != 2 {
				t.Error("the jobs do not wait for the end of the pause")
			}
			b.stageCallbacks(t, "acct_2", "other", r.URL, 1)
			once(t, b.callbackClient(t))
			r.check(t, again+1)
			b.exec(t, `UPDATE callback_endpoints SET paused_until = now()`)
			b.retryNow(t)
			once(t, b.callbackClient(t))
			if n := len(r.requests()); n < again+2 {
				t.Errorf("after the pause the receiver got %d requests", n)
			}
		})
	}
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// pausedFor returns for how long the last failure of an endpoint pauses it, in
// seconds, and how long the endpoint has been failing by then.
func (b *bundle) pausedFor(t *testing.T) (paused, failing float64) {
	t.Helper()
	paused = value[float64](t, b, `SELECT extract(epoch FROM paused_until - failed_at)::float8 FROM callback_endpoints`)
	failing = value[float64](t, b, `SELECT extract(epoch FROM failed_at - failing_since)::float8 FROM callback_endpoints`)
	return paused, failing
}

// A host that doesn't say for how long is paused for as long as it has been
// failing, for an hour at most.
func TestPausesGrow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, answering(http.StatusBadGateway))
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	once(t, b.callbackClient(t))
	for _, failing := range []float64{60, 600, 3600, 86400} {
		b.exec(t, `UPDATE callback_endpoints SET paused_until = now(), failing_since = now() - make_interval(secs => $1)`, failing)
		b.retryNow(t)
		once(t, b.callbackClient(t))
		if paused, until := b.pausedFor(t); paused < min(failing, 3600)-0.001 || paused > min(until, 3600) {
			t.Errorf("after failing for %v to %v seconds it is paused for %v", failing, until, paused)
		}
	}
}

// Callbacks that were sent at once and failed together are one trouble: the
// next pause is as short as after a single failure.
func TestFailuresTogetherMakeNoLongPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var sent atomic.Int32
	together := make(chan struct{})
	stranger := newStranger(t, func(w http.ResponseWriter, r *http.Request) {
		if sent.Add(1) == 8 {
			close(together)
		}
		select {
		case <-together:
			w.WriteHeader(http.StatusBadGateway)
		case <-r.Context().Done():
		}
	})
	b.stageCallbacks(t, "acct_1", "k", stranger.URL, 8)
	once(t, b.callbackClient(t))
	b.exec(t, `UPDATE callback_endpoints SET paused_until = now()`)
	b.retryNow(t)
	once(t, b.callbackClient(t))
	// The failure and its pause are noted at two moments.
	if paused, failing := b.pausedFor(t); paused > max(10, failing)+1 {
		t.Errorf("after failing for %v seconds it is paused for %v", failing, paused)
	}
}

// An endpoint is switched off when it has failed for five days, with failures
// at least 12 hours apart, and not before. The times are moved, not the clock.
func TestEndpointsAreSwitchedOffAfterFiveDays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		since, failed string // how long ago the first and the last failure were; a day may have 23 hours
		off           bool
	}{
		"after five days":                         {"120 hours", "1 hour", true},
		"after a month":                           {"720 hours", "696 hours", true},
		"after nearly five days":                  {"119 hours", "1 hour", false},
		"with failures just 12 hours apart":       {"120 hours", "108 hours", true},
		"with failures within less than 12 hours": {"144 hours", "132 hours 1 minute", false},
		"with one failure long ago":               {"144 hours", "144 hours", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, answering(http.StatusInternalServerError))
			b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
			host := strings.TrimPrefix(r.URL, "http://")
			b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failing_since, failed_at, failures)
				VALUES ('acct_1', $1, now() - $2::interval, now() - $3::interval, 2)`, host, c.since, c.failed)
			once(t, b.callbackClient(t))
			if off := value[bool](t, b, `SELECT switched_off_at IS NOT NULL FROM callback_endpoints`); off != c.off {
				t.Errorf("it is switched off: %t, want %t", off, c.off)
			}
			if n := value[int](t, b, `SELECT count(*) FROM river.river_job WHERE kind = 'switched_off/1'`); n != boolToInt(c.off) {
				t.Errorf("there are %d notices", n)
			}
		})
	}
}

// An account whose endpoint is switched off is told so by one e-mail. From then
// on nothing is sent to it, until somebody switches it on.
func TestSwitchedOffEndpointsGetNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, answering(http.StatusInternalServerError))
	b.stageCallbacks(t, "acct_1", "k", r.URL, 4)
	host := strings.TrimPrefix(r.URL, "http://")
	b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failing_since, failed_at, failures)
		VALUES ('acct_1', $1, now() - interval '6 days', now() - interval '1 hour', 30)`, host)
	kept := new(inbox.Inbox)
	sender, err := NewMail("smtp://"+serveMail(t, kept.MailServer(), false)+"?starttls=never", "Rocket Rides <receipts@example.com>")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	mailing := func(c *Config) { logTo(&log)(c); c.Mail = sender }
	once(t, b.callbackClient(t, mailing))
	sent := len(r.requests())
	b.retryNow(t)
	b.stageCallbacks(t, "acct_1", "later", r.URL, 3)
	b.stageCallbacks(t, "acct_2", "other", r.URL, 1)
	once(t, b.callbackClient(t, mailing))
	r.check(t, sent+1) // that of acct_2
	if got := value[string](t, b, `SELECT string_agg(DISTINCT status || ': ' || coalesce(last_error, 'none'), '; ')
		FROM callbacks WHERE account_id = 'acct_1'`); got != "given_up: the endpoint is switched off" {
		t.Errorf("the callbacks are %s", got)
	}
	messages := kept.Messages()
	if len(messages) != 1 {
		t.Fatalf("there are %d e-mails, want 1", len(messages))
	}
	m := messages[0]
	if m.To != "acct_1@example.com" || m.Subject != "Callbacks to "+host+" are switched off" || !strings.HasPrefix(m.MessageID, "switched_off.") {
		t.Errorf("the e-mail is %q to %s, %s", m.Subject, m.To, m.MessageID)
	}
	if !regexp.MustCompile(`result=delivered .*message_id=` + regexp.QuoteMeta(m.MessageID) + ` .*foreign_seconds=`).MatchString(log.String()) {
		t.Errorf("the log doesn't say which e-mail was sent and how long that took:\n%s", log.String())
	}
	for form, text := range map[string]string{"text": m.Text, "html": textOf(t, m.HTML)} {
		for _, want := range []string{host, "the receiver answered 500", "switched on"} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s lacks %q: %s", form, want, text)
			}
		}
	}
}

// One account's receiver, whatever it does, delays no other account's callback
// by more than a second, even if a crowd of callbacks waits for it.
func TestOneReceiverDelaysNoOtherAccount(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]http.HandlerFunc{
		"hangs":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
		"fails":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"floods": func(w http.ResponseWriter, _ *http.Request) {
			for chunk := make([]byte, 1<<16); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"hangs in the body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.addAccount(t, "acct_2")
			stranger := newStranger(t, bad)
			good := newReceiver(t, nil)
			// The crowd is so large, and hangs for so long, that who had to wait
			// for it would be late each time.
			start(t, b.callbackClient(t, func(c *Config) { c.Timeout = 10 * time.Second }))
			b.stageCallbacks(t, "acct_2", "alone", good.URL, 1)
			alone := b.eventuallyDelivered(t, "acct_2", 1)
			b.stageCallbacks(t, "acct_1", "k", stranger.URL, 200)
			stranger.await(t)
			delivered := 1
			for i := range 6 {
				if i == 3 {
					b.retryNow(t) // as if all pauses were over at the same time
				}
				// The receiver would delay every callback, and a busy machine only some.
				took := time.Hour
				for try := 0; try < 10 && took > alone+time.Second; try++ {
					b.stageCallbacks(t, "acct_2", fmt.Sprint("beside", delivered), good.URL, 1)
					delivered++
					took = b.eventuallyDelivered(t, "acct_2", delivered)
				}
				if took > alone+time.Second {
					t.Errorf("alone it took %s, beside a receiver that %s %s", alone, name, took)
				}
			}
		})
	}
}
