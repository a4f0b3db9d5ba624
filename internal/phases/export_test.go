package phases

import "time"

// MaxTrips is how many transactions are on their way before others wait.
const MaxTrips = maxTrips

// Gathering returns how many transactions wait for company, and makes the
// others that will wait as patient as said.
func (e *Engine) Gathering(patience time.Duration) (waiting func() int) {
	g := &e.gathering
	g.mu.Lock()
	defer g.mu.Unlock()
	g.patience = patience
	return func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		n := 0
		for _, q := range g.queues {
			n += len(q.waiting)
		}
		return n
	}
}
