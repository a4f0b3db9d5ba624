package main

import (
	"bufio"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// A call is one HTTP request of the load.
type call struct {
	method, path, apiKey, key, prefer, body string
}

// requestTimeout is longer than anything that is measured.
const requestTimeout = time.Minute

// A client sends one call after the other, over a connection that it keeps. It
// does as little as it can, because it runs on the processors that are
// measured. The zero value with an address is ready.
type client struct {
	address  string
	conn     net.Conn // nil before the first call, and after a failure
	reader   *bufio.Reader
	request  []byte
	response fasthttp.Response
}

// send sends a call and returns the status of its answer, or 0 if there is
// none.
func (c *client) send(next call) int {
	if c.conn == nil && c.connect() != nil {
		return 0
	}
	_ = c.conn.SetDeadline(time.Now().Add(requestTimeout))
	status, stays := 0, false
	if c.write(next) == nil {
		status, stays = c.read()
	}
	if !stays {
		c.close()
	}
	return status
}

func (c *client) connect() error {
	conn, err := net.DialTimeout("tcp", c.address, requestTimeout) //nolint:noctx // it has a time-out
	if err == nil {
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	return err
}

// write sends a call on the connection.
func (c *client) write(next call) error {
	b := c.request[:0]
	field := func(name, value string) {
		if value != "" {
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	b = append(append(append(append(b, next.method...), ' '), next.path...), " HTTP/1.1\r\n"...)
	field("Host", c.address)
	field("Authorization", "Bearer "+next.apiKey)
	field("Idempotency-Key", next.key)
	field("Prefer", next.prefer)
	if next.body != "" {
		field("Content-Type", "application/json")
		field("Content-Length", strconv.Itoa(len(next.body)))
	}
	c.request = append(append(b, "\r\n"...), next.body...)
	_, err := c.conn.Write(c.request)
	return err
}

// replayed is added to the status of an answer that was given before, so that
// one can't pass for a new ride.
const replayed = 1000

// read returns the status of the answer to the call that was written, or 0 if
// there is none, and whether the connection can be used again.
func (c *client) read() (status int, stays bool) {
	if err := c.response.Read(c.reader); err != nil {
		return 0, false
	}
	status = c.response.StatusCode()
	if len(c.response.Header.Peek("Idempotent-Replayed")) > 0 {
		status += replayed
	}
	return status, !c.response.ConnectionClose()
}

// close closes the connection, if there is one.
func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}
