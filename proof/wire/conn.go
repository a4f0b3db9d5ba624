package wire

import (
	"errors"
	"net"
	"sync"
	"time"
)

// errCut is the error of both directions of a cut connection.
var errCut = errors.New("wire: connection cut by the test")

// conn is one connection. Its user may write and read at the same time, but
// writes from one goroutine at a time, and reads from one at a time.
type conn struct {
	net.Conn
	line *line

	// reading is held while this side waits for the other one.
	reading sync.Mutex

	mu      sync.Mutex
	open    bool   // messages are counted
	turn    bool   // this side sends the next message
	idle    bool   // the other side keeps nothing open for this side
	message []byte // that is being written, as far as it is there
	answer  []byte // to the last message, as far as it has arrived
	fault   Fault  // that strikes this answer
	rest    []byte // of an answer that is cut in the middle, not read yet
	ending  bool   // the connection is cut when rest has been read
	cut     bool
}

// Write sends b, unless a fault strikes it. A message that is written in pieces
// is sent when it is whole.
func (c *conn) Write(b []byte) (int, error) {
	message, counted, cut := c.gather(b)
	switch {
	case cut:
		return 0, errCut
	case c.line.protocol.drops(b):
		_ = c.sever()
	case !counted:
		return c.Conn.Write(b)
	case message != nil:
		if err := c.strike(message, c.line.next(message)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// gather returns the message that b completes, or nil. It reports whether b
// belongs to a message that is counted, and whether the connection is cut.
func (c *conn) gather(b []byte) (message []byte, counted, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins := c.open && c.turn && c.line.protocol.counts(b)
	if c.cut || len(c.message) == 0 && !begins {
		return nil, false, c.cut
	}
	c.message = append(c.message, b...)
	if !c.line.protocol.whole(c.message) {
		return nil, true, false
	}
	message = c.message
	c.turn, c.answer, c.message = false, nil, nil
	return message, true, false
}

// strike lets a fault strike a message. The sender of a message that was cut
// off cannot know how much of it arrived, so it gets no error yet.
func (c *conn) strike(message []byte, fault Fault) error {
	switch fault.Kind {
	case CutBefore:
		_ = c.sever()
		return nil
	case CutSent:
		c.giveUp(message)
		return nil
	case CutPart:
		ends := c.line.protocol.ends(message)
		<-c.giveUp(message[:ends[min(fault.Part, len(ends))-1]])
		return nil
	case HoldBefore:
		fault.Hold()
	case CutAfter, CutAnswer, HoldAfter, Pass:
	}
	c.mu.Lock()
	c.fault = fault
	c.mu.Unlock()
	_, err := c.Conn.Write(message)
	return err
}

// Read reads an answer, or as much of it as the fault leaves.
func (c *conn) Read(b []byte) (int, error) {
	if n, done, err := c.leftover(b); done {
		return n, err
	}
	n, err := c.receive(b)
	fault, cut := c.took(b[:n])
	switch {
	case cut:
		return 0, errCut
	case fault.Kind == CutAfter:
		c.collect()
		return 0, c.sever()
	case fault.Kind == CutAnswer:
		c.collect()
		c.keep(fault.Part)
		n, _, err = c.leftover(b)
		return n, err
	case fault.Kind == HoldAfter:
		fault.Hold()
	}
	return n, err
}

// receive reads from the other side, unless the connection is cut.
func (c *conn) receive(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut {
		return 0, errCut
	}
	return c.Conn.Read(b)
}

// Close closes the connection.
func (c *conn) Close() error {
	c.line.forget(c)
	c.mu.Lock()
	lingers := c.cut
	c.mu.Unlock()
	if lingers {
		return nil // it is closed where it was cut
	}
	return c.Conn.Close()
}

// leftover reads the rest of an answer that is cut in the middle. It reports
// whether nothing more is to be read from the connection.
func (c *conn) leftover(b []byte) (n int, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.rest) > 0:
		n = copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, true, nil
	case c.ending && !c.cut:
		c.cut = true
		_ = c.Conn.Close()
		return 0, true, errCut
	}
	return 0, c.cut, errCut
}

// took records what has arrived. It returns the fault that strikes it, and
// reports whether the connection is cut.
func (c *conn) took(b []byte) (Fault, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn = c.turn || len(b) > 0
	c.answer = append(c.answer, b...)
	fault := c.fault
	ends, whole := c.line.protocol.answer(c.answer)
	if whole {
		c.open, c.idle = true, c.line.protocol.idle(c.answer)
		if fault.Answered != nil {
			fault.Answered(len(ends))
		}
		c.fault = Fault{}
	}
	c.fault.Kind = Pass // it strikes once
	return fault, c.cut
}

// collect reads the whole answer. Then the other side has acted.
func (c *conn) collect() {
	buffer := make([]byte, 4096)
	for !c.whole() {
		n, err := c.Conn.Read(buffer)
		c.took(buffer[:n])
		if err != nil {
			return
		}
	}
}

// whole reports whether the whole answer has arrived.
func (c *conn) whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, whole := c.line.protocol.answer(c.answer)
	return whole
}

// keep keeps the first frames of the answer for Read.
func (c *conn) keep(part int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ends, _ := c.line.protocol.answer(c.answer)
	if len(ends) > 0 {
		c.rest = c.answer[:ends[min(part, len(ends))-1]]
	}
	c.ending = true
}

// isIdle reports whether the other side keeps nothing open.
func (c *conn) isIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut || c.idle
}

// sever ends the connection for both sides.
func (c *conn) sever() error {
	c.mu.Lock()
	c.cut = true
	c.mu.Unlock()
	c.line.forget(c)
	_ = c.Conn.Close()
	return errCut
}

// giveUp ends the connection for this side after some last bytes. The other side
// may still act on what it has received. The channel is closed when it has
// ended the connection.
func (c *conn) giveUp(last []byte) <-chan struct{} {
	c.mu.Lock()
	c.cut = true // before the other side can answer
	c.mu.Unlock()
	c.line.forget(c)
	_, _ = c.Conn.Write(last)
	// A read that waits already, as one of pgx does beside a slow write, ends
	// at once. The connection is read by linger alone from then on.
	_ = c.SetReadDeadline(time.Unix(1, 0))
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.line.linger(c.Conn)
}
