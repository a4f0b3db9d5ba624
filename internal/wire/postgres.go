package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
)

// Postgres wraps the connections of one pool. Dial is its pgconn.DialFunc.
// Messages are counted once a connection is authenticated. It is safe for
// concurrent use.
type Postgres struct {
	mu   sync.Mutex
	plan Plan
	n    int
}

// NewPostgres returns a wrapper under whose plan everything passes.
func NewPostgres() *Postgres { return &Postgres{plan: Nothing} }

// Plan puts a plan in force and counts from 1 again.
func (p *Postgres) Plan(plan Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.n = plan, 0
}

// Messages returns the number of messages since the last Plan: each is one round
// trip.
func (p *Postgres) Messages() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *Postgres) next(message []byte) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	return p.plan(p.n, message)
}

// Dial connects to Postgres.
func (p *Postgres) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: raw, wire: p}, nil
}

// errCut is what both ends of a cut connection see.
var errCut = errors.New("wire: connection cut by the test")

// conn is one connection. pgconn writes and reads from different goroutines, but
// never two of either at once.
type conn struct {
	net.Conn
	wire *Postgres

	mu      sync.Mutex
	answers frames // what the server has sent
	ready   int    // how often it said ReadyForQuery
	turn    bool   // the server has sent something since the last message
	after   Fault  // what happens to the answer of the last message
	cut     bool
}

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	counted := c.ready > 0 && c.turn && b[0] != 'X' // Terminate isn't answered
	c.turn = c.turn && !counted
	cut := c.cut
	c.mu.Unlock()
	if cut {
		return 0, errCut
	}
	if isCancel(b) {
		_ = c.sever()
		return len(b), nil
	}
	if !counted {
		return c.Conn.Write(b)
	}
	fault := c.wire.next(b)
	switch fault.Kind {
	case CutBefore:
		_ = c.sever()
		return len(b), nil // the sender cannot tell how far it came
	case CutSent:
		_, _ = c.Conn.Write(b)
		_ = c.sever()
		return len(b), nil
	case HoldBefore:
		fault.Hold()
	case CutAfter, HoldAfter:
		c.mu.Lock()
		c.after = fault
		c.mu.Unlock()
	case Pass:
	}
	return c.Conn.Write(b)
}

// isCancel tells whether b is a cancel request, which pgx sends over a connection
// of its own when it gives one up. A network that has been cut doesn't carry it
// either, so it never arrives here.
func isCancel(b []byte) bool {
	const cancelRequest = 80877102
	return len(b) == 16 && binary.BigEndian.Uint32(b[4:]) == cancelRequest
}

func (c *conn) Read(b []byte) (int, error) {
	c.mu.Lock()
	cut, after := c.cut, c.after
	c.after = Fault{}
	c.mu.Unlock()
	switch {
	case cut:
		return 0, errCut
	case after.Kind == CutAfter:
		c.drain()
		return 0, c.sever()
	case after.Kind == HoldAfter:
		n, err := c.read(b)
		after.Hold()
		return n, err
	}
	return c.read(b)
}

func (c *conn) read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn = c.turn || n > 0
	c.ready += c.answers.take(b[:n])
	return n, err
}

// drain reads and drops the answer, up to where the server waits again: then it
// has acted.
func (c *conn) drain() {
	c.mu.Lock()
	before := c.ready
	c.mu.Unlock()
	buffer := make([]byte, 4096)
	for {
		if _, err := c.read(buffer); err != nil {
			return
		}
		c.mu.Lock()
		done := c.ready > before
		c.mu.Unlock()
		if done {
			return
		}
	}
}

func (c *conn) sever() error {
	c.mu.Lock()
	c.cut = true
	c.mu.Unlock()
	_ = c.Close()
	return errCut
}

// frames finds the ends of the server's messages in its stream: a type, four
// bytes of length that count themselves, and the rest.
type frames struct {
	head []byte
	kind byte
	rest int
}

// take takes the next bytes and returns how many ReadyForQuery ended in them.
func (f *frames) take(b []byte) int {
	ready := 0
	for len(b) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(b))
			f.rest -= n
			b = b[n:]
		} else {
			n := min(5-len(f.head), len(b))
			f.head = append(f.head, b[:n]...)
			b = b[n:]
			if len(f.head) < 5 {
				break
			}
			f.kind, f.rest = f.head[0], int(binary.BigEndian.Uint32(f.head[1:]))-4
			f.head = f.head[:0]
		}
		if f.rest == 0 && f.kind == 'Z' {
			ready++
			f.kind = 0
		}
	}
	return ready
}
