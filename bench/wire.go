package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync/atomic"
)

// A wire is a proxy in front of Postgres that counts what goes through. It
// costs time, so that nothing else is measured while it is used.
type wire struct {
	address string

	// statements are those that the server was asked to execute, BEGIN and
	// COMMIT included.
	statements atomic.Int64
	// trips are how often a client waited for the server: once for everything
	// that it sends before that.
	trips atomic.Int64
}

// startWire starts a proxy, until ctx ends.
func (l *lab) startWire(ctx context.Context) (*wire, error) {
	u, err := url.Parse(l.server.URL())
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	w := &wire{address: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			server, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
			if err != nil {
				_ = client.Close()
				continue
			}
			go forward(client, server, server)
			go forward(server, io.TeeReader(client, &counter{wire: w}), client)
		}
	}()
	return w, nil
}

// forward copies until one side ends, and closes what it is given.
func forward(to net.Conn, from io.Reader, more ...io.Closer) {
	_, _ = io.Copy(to, from) // either side may end at any time
	_ = to.Close()
	for _, c := range more {
		_ = c.Close()
	}
}

// A counter reads the messages of one client.
//
// The first ones, of the start, have a length and no type. All others have a
// type, then a length that counts itself (PostgreSQL's documentation,
// "Frontend/Backend Protocol", "Message Formats").
type counter struct {
	wire    *wire
	started bool
	head    []byte // of the message that is being read
	skip    int    // bytes left of its body
}

// startUp is the version with which a client begins a session. Other first
// messages ask for encryption, and another follows.
const startUp = 3

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if c.skip > 0 {
			skipped := min(c.skip, len(b))
			c.skip -= skipped
			b = b[skipped:]
			continue
		}
		c.head = append(c.head, b[0])
		b = b[1:]
		c.begin()
	}
	return n, nil
}

// begin looks at the head of a message, when it is complete.
func (c *counter) begin() {
	if !c.started {
		if len(c.head) == 8 {
			c.started = binary.BigEndian.Uint16(c.head[4:]) == startUp
			c.skip = int(binary.BigEndian.Uint32(c.head)) - len(c.head)
			c.head = c.head[:0]
		}
		return
	}
	if len(c.head) < 5 {
		return
	}
	switch c.head[0] {
	case 'E': // Execute
		c.wire.statements.Add(1)
	case 'S': // Sync, after which the client waits
		c.wire.trips.Add(1)
	case 'Q': // Query, which is both
		c.wire.statements.Add(1)
		c.wire.trips.Add(1)
	}
	c.skip = int(binary.BigEndian.Uint32(c.head[1:])) - 4
	c.head = c.head[:0]
}
