package wire

import (
	"context"
	"net"
	"sync"
	"time"
)

// line is the connections of one process to one other side.
type line struct {
	// Base opens the connections that are wrapped; nil means over the network.
	// It is set before the first one.
	Base func(ctx context.Context, network, address string) (net.Conn, error)

	protocol protocol

	mu    sync.Mutex
	plan  Plan
	n     int
	conns map[*conn]bool
	ends  sync.WaitGroup // of the connections that were cut with a message on its way
}

// A protocol tells where messages, answers and their frames end.
type protocol struct {
	// greets tells that nothing counts before the other side has said that it
	// is ready.
	greets bool
	// ends returns where the frames of a message end.
	ends func(message []byte) []int
	// answer returns where the frames of an answer end, as far as it has come,
	// and whether it is whole.
	answer func(answer []byte) (ends []int, whole bool)
	// whole tells whether a message that is written in pieces has all of them.
	whole func(message []byte) bool
	// counts tells whether a message is one that is answered.
	counts func(message []byte) bool
	// drops tells whether a message is one that a cut network would not carry.
	drops func(message []byte) bool
	// idle tells, by a whole answer, whether the other side keeps nothing open.
	idle func(answer []byte) bool
}

// Plan puts a plan in force and counts from 1 again.
func (l *line) Plan(plan Plan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan, l.n = plan, 0
}

// Messages returns the number of messages since the last Plan: each is one
// round trip.
func (l *line) Messages() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// Wait returns when the other side is done with everything that was cut off on
// its way: after it nothing happens any more that was sent before.
func (l *line) Wait() { l.ends.Wait() }

// Open returns on how many connections the other side said last that it keeps
// something open for this one: a transaction.
func (l *line) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	open := 0
	for c := range l.conns {
		if !c.isIdle() {
			open++
		}
	}
	return open
}

func (l *line) next(message []byte) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return l.plan(l.n, message)
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.Base
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, line: l, open: !l.protocol.greets, turn: true, idle: true}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return c, nil
}

func (l *line) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// lingering is how long the other side of a cut connection may take to end it.
const lingering = 15 * time.Second

// linger says to the other side that nothing more will come, and waits for it
// to end the connection.
func (l *line) linger(raw net.Conn) <-chan struct{} {
	done := make(chan struct{})
	l.ends.Go(func() {
		defer close(done)
		defer func() { _ = raw.Close() }()
		half, ok := raw.(interface{ CloseWrite() error })
		if !ok || half.CloseWrite() != nil {
			return
		}
		_ = raw.SetReadDeadline(time.Now().Add(lingering))
		buffer := make([]byte, 4096)
		for {
			if _, err := raw.Read(buffer); err != nil {
				return
			}
		}
	})
	return done
}
