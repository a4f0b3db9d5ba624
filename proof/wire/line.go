package wire

import (
	"context"
	"net"
	"sync"
	"time"
)

// line is all connections of one process to one other side.
type line struct {
	// Base opens the connections that are wrapped. Nil dials the network. It
	// must be set before the first connection.
	Base func(ctx context.Context, network, address string) (net.Conn, error)

	protocol protocol

	mu    sync.Mutex
	plan  Plan
	n     int
	conns map[*conn]bool
	ends  []<-chan struct{} // of connections that were cut while a message was on its way
}

// A protocol knows where messages, answers and their frames end.
type protocol struct {
	// greets is set if no message is counted before the other side is ready.
	greets bool
	// ends returns where the frames of a message end.
	ends func(message []byte) []int
	// answer returns where the frames of an answer end, as far as it has
	// arrived, and reports whether it is whole.
	answer func(answer []byte) (ends []int, whole bool)
	// whole reports whether a message that is written in pieces is complete.
	whole func(message []byte) bool
	// counts reports whether a message is one that gets an answer.
	counts func(message []byte) bool
	// drops reports whether a message is one that a cut network would not
	// carry.
	drops func(message []byte) bool
	// idle reports, from a whole answer, whether the other side keeps nothing
	// open.
	idle func(answer []byte) bool
}

// Plan sets the plan, and starts counting from 1 again.
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

// Wait returns when the other side has finished with everything that was cut
// off on its way. Nothing that was sent before has an effect after that.
func (l *line) Wait() {
	l.mu.Lock()
	ends := l.ends
	l.mu.Unlock()
	for _, end := range ends {
		<-end
	}
}

// Open returns the number of connections on which the other side keeps
// something open, such as a transaction, as its last answers show.
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

// next counts a message and returns the fault that strikes it.
func (l *line) next(message []byte) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return l.plan(l.n, message)
}

// dial opens a connection and wraps it.
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

// forget removes a connection.
func (l *line) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// lingering is how long the other side may take to end a cut connection.
const lingering = 15 * time.Second

// linger closes the sending side of a connection, and waits until the other
// side has ended it. The channel is closed then.
func (l *line) linger(raw net.Conn) <-chan struct{} {
	done := make(chan struct{})
	l.mu.Lock()
	l.ends = append(l.ends, done)
	l.mu.Unlock()
	go func() {
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
	}()
	return done
}
