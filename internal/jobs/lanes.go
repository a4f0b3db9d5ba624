package jobs

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// slowAttempt is what attempts take on average in an account that is slow.
	slowAttempt = time.Second

	// minTurn and maxTurn bound how long a job waits for its turn. The database
	// is polled, so a shorter wait gains nothing. A longer one would go on when
	// the receiver is well again.
	minTurn = time.Second
	maxTurn = 30 * time.Minute

	// late is how long after its turn a job comes back at most: River looks
	// every few seconds for jobs whose time has come.
	late = 10 * time.Second
)

// lanes share the workers of this process between the callbacks of all
// accounts and hosts, so that one that is slow, or has very many, doesn't hold
// up the others. It is safe for concurrent use.
//
//   - An account gets an eighth of the workers, and a host a quarter.
//   - An account whose attempts are slow gets a thirty-second, and all of those
//     together get half.
//
// A job for which there is no place waits in the database. Waiting jobs of an
// account are spread over time at the pace at which its attempts end, so that a
// crowd of them doesn't keep the workers busy with looking for a place.
type lanes struct {
	workers int

	mu    sync.Mutex
	lanes map[string]*lane // by account and by host
	slow  int              // attempts of slow accounts
}

// A lane is what is going on for one account or host.
type lane struct {
	attempts int
	// mean is the moving average of the time that attempts take.
	mean time.Duration
	// turn is when the next job that finds no place comes back.
	turn time.Time
}

func newLanes(workers int) *lanes { return &lanes{workers: workers, lanes: make(map[string]*lane)} }

// enter takes a place for an attempt. If there is none, wait is how long the
// job should wait. Otherwise the caller says with leave how long the attempt
// took.
func (l *lanes) enter(account, host string) (leave func(took time.Duration), wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine, shared := l.lane("account "+account), l.lane("host "+host)
	slow := mine.mean > slowAttempt
	limit := l.share(8)
	if slow {
		limit = l.share(32)
	}
	if mine.attempts >= limit || shared.attempts >= l.share(4) || slow && l.slow >= l.share(2) {
		l.forget("host " + host)
		return nil, mine.wait(time.Now(), limit)
	}
	mine.attempts++
	shared.attempts++
	if slow {
		l.slow++
	}
	return func(took time.Duration) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if slow {
			l.slow--
		}
		mine.ended(took)
		shared.ended(took)
		l.forget("account " + account)
		l.forget("host " + host)
	}, 0
}

// share is a part of the workers, and at least one.
func (l *lanes) share(parts int) int { return max(l.workers/parts, 1) }

func (l *lanes) lane(name string) *lane {
	l.forget(name)
	found := l.lanes[name]
	if found == nil {
		found = new(lane)
		l.lanes[name] = found
	}
	return found
}

// forget deletes a lane in which nothing goes on and nobody waits. That of an
// account whose last job waits, and is then taken by another process, stays
// until the account's next job.
func (l *lanes) forget(name string) {
	if found := l.lanes[name]; found != nil && found.attempts == 0 && time.Since(found.turn) > late {
		delete(l.lanes, name)
	}
}

// ended notes the end of an attempt. One that sent nothing took no time.
func (l *lane) ended(took time.Duration) {
	l.attempts--
	switch {
	case took == 0:
	case l.mean == 0:
		l.mean = took
	default:
		l.mean += (took - l.mean) / 4
	}
}

// wait returns how long the next job waits for its turn. Turns follow each
// other as attempts end, of which limit are made at once.
func (l *lane) wait(now time.Time, limit int) time.Duration {
	turn := l.turn.Add(l.mean / time.Duration(limit))
	if turn.Before(now) {
		turn = now
	}
	wait := turn.Sub(now)
	if wait > maxTurn {
		return maxTurn/2 + rand.N(maxTurn/2) //nolint:gosec // spreading load needs no secrecy
	}
	l.turn = turn
	return max(wait, minTurn)
}
