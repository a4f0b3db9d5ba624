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

// sessions keeps the sessions of Postgres that a process ended, or that were
// cut between two messages, as a pooler does: ROLLBACK is what Postgres does by
// itself when its client is gone, DISCARD ALL makes a session as good as new,
// and both cost a tenth of another. To the process it is new: it says what a
// new one says. One that was cut in the middle of a message is never used
// again.
type sessions struct {
	// heardError is called with the SQLSTATE of each error that shows a
	// tripwire, or the end of a session that idled in a transaction.
	heardError func(code string)

	mu    sync.Mutex
	spare []*session
}

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
	used bool // another process had it before

	mu       sync.Mutex
	greeting []byte // what the server says when the password was right
	pending  []byte // of the greeting: what this process has yet to read
	greeted  bool
	tail     []byte // the end of what the server has said
	readers  int    // that wait for the server to say more
	kept     bool
}

// Read reads what the server says, and first of all the greeting.
func (s *session) Read(b []byte) (int, error) {
	if n, err := s.greet(b); n > 0 || err != nil {
		return n, err
	}
	n, err := s.Conn.Read(b)
	s.heard(b[:n])
	return n, err
}

// greet reads what there is to be read without asking the server.
func (s *session) greet(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		return 0, io.EOF // to whoever ended the session, it is over
	}
	n := copy(b, s.pending)
	s.pending = s.pending[n:]
	if n == 0 {
		s.readers++
	}
	return n, nil
}

// heard remembers the greeting and how the last answer ended.
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
		// Before it comes the talk about the password.
		s.greeting = s.greeting[max(0, bytes.Index(s.greeting, authenticated)):]
	}
}

var (
	ready         = []byte{'Z', 0, 0, 0, 5}
	readyIdle     = append(slices.Clip(ready), 'I')
	authenticated = []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0}
	terminate     = []byte{'X', 0, 0, 0, 4}

	// errorCode finds, in an ErrorResponse, the field of a SQLSTATE that a run
	// must hear of.
	errorCode = regexp.MustCompile(`\x00C(RR00[1-4]|` + idledOut + `)\x00`)
)

// Write sends b, but for the words that begin and end a session.
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
// a message and nobody else for the server.
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

// ask sends a statement by itself, and tells whether all went well.
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

// Close closes a connection that is not kept.
func (s *session) Close() error {
	if s.reset() {
		return nil
	}
	return s.Conn.Close()
}

// CloseWrite tells the server that nothing more will come.
func (s *session) CloseWrite() error {
	half, ok := s.Conn.(*net.TCPConn)
	if !ok {
		return errRefused
	}
	return half.CloseWrite()
}

// SetDeadline is the former owner's no more when the session is kept, as are
// the two that follow.
func (s *session) SetDeadline(t time.Time) error { return s.limit(s.Conn.SetDeadline, t) }

// SetReadDeadline is SetDeadline for reading.
func (s *session) SetReadDeadline(t time.Time) error { return s.limit(s.Conn.SetReadDeadline, t) }

// SetWriteDeadline is SetDeadline for writing.
func (s *session) SetWriteDeadline(t time.Time) error { return s.limit(s.Conn.SetWriteDeadline, t) }

func (s *session) limit(set func(time.Time) error, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		return nil
	}
	return set(t)
}
