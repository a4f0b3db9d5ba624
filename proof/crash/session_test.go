package crash

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"
)

// sessions keeps sessions of Postgres that a process ended, or that were cut
// between two messages, and uses them again, as a pooler does. Postgres itself
// rolls back when its client is gone, so ROLLBACK changes nothing. DISCARD ALL
// makes a session as good as new. Both together cost a tenth of a new session.
// To the process the session is new: it gets the greeting of a new one. A
// session that was cut in the middle of a message is never used again.
type sessions struct {
	// heardError is called with the SQLSTATE of each error that shows a
	// tripwire, or the end of a session that idled in a transaction.
	heardError func(code string)

	mu    sync.Mutex
	spare []*session
}

// dial returns a kept session, or connects to Postgres.
func (s *sessions) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > 0 {
		old := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return &session{Conn: old.Conn, home: s, greeting: old.greeting, used: true}, nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &session{Conn: conn, home: s}, nil
}

// close closes all kept sessions.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, spare := range s.spare {
		_ = spare.Conn.Close()
	}
	s.spare = nil
}

// A session is a connection to Postgres.
type session struct {
	net.Conn
	home *sessions
	used bool // it was used before

	mu       sync.Mutex
	greeting []byte // what the server sent when the password had been accepted
	pending  []byte // the rest of the greeting, which this process has not read
	greeted  bool
	tail     []byte // the end of what the server has sent
	readers  int    // that wait for the server to send more
	kept     bool
}

// Read reads the greeting, and then what the server sends.
func (s *session) Read(b []byte) (int, error) {
	if n, err := s.greet(b); n > 0 || err != nil {
		return n, err
	}
	n, err := s.Conn.Read(b)
	s.heard(b[:n])
	return n, err
}

// greet reads what is left of the greeting.
func (s *session) greet(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		return 0, io.EOF // to the process that ended the session, it is closed
	}
	n := copy(b, s.pending)
	s.pending = s.pending[n:]
	if n == 0 {
		s.readers++
	}
	return n, nil
}

// heard keeps the greeting and the end of the last answer.
func (s *session) heard(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
	if found := errorCode.FindSubmatch(b); found != nil {
		s.home.heardError(string(found[1]))
	}
	s.tail = append(slices.Clip(s.tail), b...)
	s.tail = s.tail[max(0, len(s.tail)-len(readyIdle)):]
	if s.greeted || s.used {
		return
	}
	s.greeting = append(s.greeting, b...)
	s.greeted = bytes.HasSuffix(s.greeting, readyIdle)
	if s.greeted {
		// What comes before it is about the password.
		s.greeting = s.greeting[max(0, bytes.Index(s.greeting, authenticated)):]
	}
}

var (
	ready         = []byte{'Z', 0, 0, 0, 5}
	readyIdle     = append(slices.Clip(ready), 'I')
	authenticated = []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0}
	terminate     = []byte{'X', 0, 0, 0, 4}

	// errorCode finds, in an ErrorResponse, the field of a SQLSTATE that a run
	// must know of.
	errorCode = regexp.MustCompile(`\x00C(RR00[1-4]|` + idledOut + `)\x00`)
)

// Write sends b, unless it begins a session that is used again, or ends one
// that can be kept.
func (s *session) Write(b []byte) (int, error) {
	const version3 = 3 << 16
	switch {
	case s.used && len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) == version3:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pending, s.tail = s.greeting, readyIdle
		return len(b), nil
	case bytes.Equal(b, terminate) && s.reset():
		return len(b), nil
	}
	s.mu.Lock()
	s.tail = nil
	s.mu.Unlock()
	return s.Conn.Write(b)
}

// reset makes the session as good as new and keeps it, if the server waits for
// a message and nobody waits for the server. It reports whether the session is
// kept.
func (s *session) reset() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept || s.readers > 0 || len(s.tail) != len(readyIdle) || !bytes.HasPrefix(s.tail, ready) {
		return s.kept
	}
	_ = s.Conn.SetDeadline(time.Now().Add(time.Second))
	if !bytes.Equal(s.tail, readyIdle) && !s.ask("ROLLBACK") || !s.ask("DISCARD ALL") {
		return false
	}
	_ = s.Conn.SetDeadline(time.Time{})
	s.kept = true
	s.home.mu.Lock()
	defer s.home.mu.Unlock()
	s.home.spare = append(s.home.spare, s)
	return true
}

// ask sends a statement, and reports whether it succeeded.
func (s *session) ask(sql string) bool {
	query := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(sql)+1))
	if _, err := s.Conn.Write(append(append(query, sql...), 0)); err != nil {
		return false
	}
	var answer []byte
	buffer := make([]byte, 1024)
	for !bytes.HasSuffix(answer, readyIdle) {
		n, err := s.Conn.Read(buffer)
		if err != nil {
			return false
		}
		answer = append(answer, buffer[:n]...)
	}
	return answer[0] == 'C' // CommandComplete
}

// Close closes the connection, unless it can be kept.
func (s *session) Close() error {
	if s.reset() {
		return nil
	}
	return s.Conn.Close()
}

// CloseWrite closes the sending side of the connection.
func (s *session) CloseWrite() error {
	half, ok := s.Conn.(*net.TCPConn)
	if !ok {
		return errRefused
	}
	return half.CloseWrite()
}

// SetDeadline does nothing when the session is kept, because its former owner
// may still call it. SetReadDeadline and SetWriteDeadline are alike.
func (s *session) SetDeadline(t time.Time) error { return s.limit(s.Conn.SetDeadline, t) }

// SetReadDeadline is SetDeadline for reading.
func (s *session) SetReadDeadline(t time.Time) error { return s.limit(s.Conn.SetReadDeadline, t) }

// SetWriteDeadline is SetDeadline for writing.
func (s *session) SetWriteDeadline(t time.Time) error { return s.limit(s.Conn.SetWriteDeadline, t) }

// limit sets a deadline, unless the session is kept.
func (s *session) limit(set func(time.Time) error, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		return nil
	}
	return set(t)
}
