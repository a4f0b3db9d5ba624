package jobs

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// fill takes all the places that an account gets at a host, and returns how
// many, and how they are left.
func (l *lanes) fill(account string, host func(i int) string) (n int, leave func(took time.Duration)) {
	var leaving []func(time.Duration)
	for {
		next, _ := l.enter(account, host(n))
		if next == nil {
			return n, func(took time.Duration) {
				for _, leave := range leaving {
					leave(took)
				}
			}
		}
		leaving = append(leaving, next)
		n++
	}
}

func at(host string) func(int) string { return func(int) string { return host } }

// No account takes more than an eighth of the workers, however many hosts it
// has, and no host more than a quarter, however many accounts call it.
func TestAccountsAndHostsHaveShares(t *testing.T) {
	t.Parallel()
	l := newLanes(64)
	if n, _ := l.fill("acct_1", func(i int) string { return fmt.Sprintf("host-%d.example", i) }); n != 8 {
		t.Errorf("an account with many hosts takes %d places", n)
	}
	if n, _ := l.fill("acct_2", at("shared.example")); n != 8 {
		t.Errorf("an account takes %d places", n)
	}
	if n, _ := l.fill("acct_3", at("shared.example")); n != 8 {
		t.Errorf("the next account takes %d places at the same host", n)
	}
	if n, _ := l.fill("acct_4", at("shared.example")); n != 0 {
		t.Errorf("a host takes %d callbacks more than its share", n)
	}
	if n, _ := l.fill("acct_4", at("other.example")); n != 8 {
		t.Errorf("the account takes %d places at another host", n)
	}
}

// Accounts whose attempts have been slow leave half of the workers to the
// others.
func TestSlowAccountsShareHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(64)
		total := 0
		for i := range 50 {
			name := fmt.Sprint("slow ", i)
			_, leave := l.fill(name, at(name)) // one more waits, so the account is remembered
			leave(15 * time.Second)
			n, _ := l.fill(name, at(name))
			if total += n; n > 2 {
				t.Errorf("a slow account takes %d places", n)
			}
		}
		if total != 32 {
			t.Errorf("slow accounts take %d places", total)
		}
		if n, _ := l.fill("fast", at("fast")); n != 8 {
			t.Errorf("a fast account takes %d places", n)
		}
	})
}

// An account stays slow while its jobs come and go: when all of its attempts
// have ended, and when it finds no place because other slow ones have theirs.
func TestSlowAccountsStaySlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(64)
		var leaving []func(time.Duration)
		comeBack := func() (n int) {
			time.Sleep(minTurn)
			for i := range 50 {
				name := fmt.Sprint("slow ", i)
				more, leave := l.fill(name, at(name))
				n, leaving = n+more, append(leaving, leave)
			}
			return n
		}
		for range 15 { // one more waits each time
			comeBack()
		}
		for _, leave := range leaving {
			leave(15 * time.Second)
		}
		total := 0
		for range 20 {
			total += comeBack()
		}
		if total != 32 {
			t.Errorf("slow accounts take %d places", total)
		}
		if n, _ := l.fill("fast", at("fast")); n != 8 {
			t.Errorf("a fast account takes %d places", n)
		}
	})
}

// Jobs that find no place come back at the pace at which attempts end, not all
// at once, and in the end whatever the pace.
func TestTurnsFollowThePace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(64)
		_, leave := l.fill("acct_1", at("host"))
		leave(16 * time.Second)
		n, _ := l.fill("acct_1", at("host"))
		if n != 2 {
			t.Fatalf("a slow account takes %d places", n)
		}
		var last time.Duration
		for i := range 100 { // the last of fill was one
			_, wait := l.enter("acct_1", "host")
			if want := time.Duration(i+2) * 8 * time.Second; wait != want {
				t.Fatalf("job %d waits %s, want %s", i, wait, want)
			}
			last = wait
		}
		time.Sleep(time.Minute)
		if _, wait := l.enter("acct_1", "host"); wait != last+8*time.Second-time.Minute {
			t.Errorf("a minute later a job waits %s", wait)
		}
		for range 1000 {
			if _, wait := l.enter("acct_1", "host"); wait < minTurn || wait > maxTurn {
				t.Fatalf("a job waits %s", wait)
			}
		}
	})
}

// Nothing is remembered of what is over: clients choose the names of hosts.
func TestLanesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(64)
		n, leave := l.fill("acct_1", func(i int) string { return fmt.Sprint("host ", i) })
		for i := range 1000 {
			l.enter("acct_1", fmt.Sprint("no place ", i))
		}
		if want := n + 1; len(l.lanes) != want {
			t.Errorf("there are %d lanes, want %d", len(l.lanes), want)
		}
		time.Sleep(maxTurn + time.Second)
		leave(time.Millisecond)
		if len(l.lanes) != 0 || l.slow != 0 {
			t.Errorf("%d lanes are left, and %d slow attempts", len(l.lanes), l.slow)
		}
	})
}

// A round delivers all callbacks of an account, however few places it has.
func TestARoundDeliversACrowd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.stageCallbacks(t, "acct_1", "k", r.URL, 60)
	if counts := once(t, b.callbackClient(t)); counts.Delivered != 60 {
		t.Errorf("the round did %+v", counts)
	}
	b.checkCallbacks(t, "delivered after 1: 200, completed")
}
