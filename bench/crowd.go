package main

import (
	"slices"
	"sync"
	"time"
)

// A crowd are the clients of an open loop: as many as wait for an answer at
// once. Whoever sends a request writes it itself, on the connection of a client
// that waits for none, and goes on at once. A goroutine of each client reads
// the answers.
type crowd struct {
	load
	recorder *recorder
	began    time.Time

	waiting sync.WaitGroup // for each answer that is to come

	mu   sync.Mutex
	idle []*member
	all  map[*member]bool
}

// A member is a client of a crowd. Once it is connected its conn stays, also when
// it is closed: whoever sends may have taken the member just before.
type member struct {
	client
	planned time.Duration // when its request was to be sent, after the begin
	busy    bool          // an answer is to come
}

func newCrowd(l load, r *recorder) *crowd {
	return &crowd{load: l, recorder: r, began: time.Now(), all: map[*member]bool{}}
}

// send sends the next request, which was planned for a time after the begin.
func (c *crowd) send(planned time.Duration) {
	next := c.next()
	c.waiting.Add(1)
	m := c.take(planned)
	if m.conn == nil {
		go c.join(m, next) // connecting may take long
		return
	}
	m.writeOrEnd(next)
}

// take returns a client for a request: one that is idle, or else a new one.
func (c *crowd) take(planned time.Duration) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &member{client: client{address: c.address}}
	if last := len(c.idle) - 1; last >= 0 {
		m, c.idle = c.idle[last], c.idle[:last]
	}
	m.planned, m.busy = planned, true
	return m
}

// join connects a client, sends its first request, and takes all its answers.
func (c *crowd) join(m *member, first call) {
	if m.connect() != nil {
		c.answered(m, 0, false)
		return
	}
	defer m.conn.Close() //nolint:errcheck // nothing is left to read or to write
	c.mu.Lock()
	c.all[m] = true
	c.mu.Unlock()
	m.writeOrEnd(first)
	for {
		if status, stays := m.read(); !c.answered(m, status, stays) {
			return
		}
	}
}

// writeOrEnd sends a request. If it fails, whoever reads the answer notices.
func (m *member) writeOrEnd(next call) {
	if err := m.write(next); err != nil {
		_ = m.conn.Close()
	}
}

// answered notes an answer, and reports whether the client stays.
func (c *crowd) answered(m *member, status int, stays bool) bool {
	end := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	stays = stays && m.busy // if it isn't, the server has closed an idle connection
	if m.busy {
		m.busy = false
		c.recorder.add(sample{end: end, latency: end.Sub(c.began) - m.planned, status: status})
		c.waiting.Done()
	}
	if stays {
		c.idle = append(c.idle, m)
		return true
	}
	delete(c.all, m)
	c.idle = slices.DeleteFunc(c.idle, func(idle *member) bool { return idle == m })
	return false
}

// leave returns when all answers have come, or after requestTimeout.
func (c *crowd) leave() {
	patience := time.AfterFunc(requestTimeout, c.hangUp)
	c.waiting.Wait()
	patience.Stop()
	c.hangUp()
}

// hangUp ends all connections.
func (c *crowd) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range c.all {
		_ = m.conn.Close()
	}
}
