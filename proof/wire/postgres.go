package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
)

// Postgres wraps the connections of one pool. Messages are counted after a
// connection is authenticated. It is safe for concurrent use.
type Postgres struct {
	line

	names sync.Map // digests of prepared statements by their names, for Summary
}

// NewPostgres returns a wrapper whose plan has no faults.
func NewPostgres() *Postgres {
	return &Postgres{line: line{
		plan: Nothing, conns: map[*conn]bool{},
		protocol: protocol{
			greets: true, ends: postgresEnds, answer: postgresAnswer, drops: isCancel,
			whole:  func([]byte) bool { return true },                      // pgx flushes a pipeline at once
			counts: func(message []byte) bool { return message[0] != 'X' }, // Terminate gets no answer
			idle:   func(answer []byte) bool { return answer[len(answer)-1] == 'I' },
		},
	}}
}

// Dial connects to Postgres. It is a pgconn.DialFunc.
func (p *Postgres) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.dial(ctx, network, address)
}

// Frames returns how many frames a message has.
func (p *Postgres) Frames(message []byte) int { return len(postgresEnds(message)) }

// postgresEnds returns where the frames end. A frame has a type, a length of
// four bytes that includes these four, and a body.
func postgresEnds(stream []byte) []int {
	const head = 5
	var ends []int
	for at := 0; at+head <= len(stream); {
		at += 1 + int(binary.BigEndian.Uint32(stream[at+1:]))
		if at <= len(stream) {
			ends = append(ends, at)
		}
	}
	return ends
}

// postgresAnswer returns where the frames of an answer end, and reports whether
// it is whole: then it ends with ReadyForQuery, which has six bytes.
func postgresAnswer(stream []byte) ([]int, bool) {
	const length = 6
	ends := postgresEnds(stream)
	whole := len(ends) > 0 && ends[len(ends)-1] == len(stream) && len(stream) >= length &&
		stream[len(stream)-length] == 'Z' && bytes.Equal(stream[len(stream)-length+1:len(stream)-1], []byte{0, 0, 0, 5})
	return ends, whole
}

// isCancel reports whether b is a cancel request, which pgx sends over a second
// connection when it gives up the first one. A cut network would not carry it,
// so here it never arrives.
func isCancel(b []byte) bool {
	const cancelRequest = 80877102
	return len(b) == 16 && binary.BigEndian.Uint32(b[4:]) == cancelRequest
}

// Summary returns in a few words what a message asks of Postgres. It must be
// called for every message, because a prepared statement is later sent by its
// name alone.
func (p *Postgres) Summary(message []byte) string {
	var words []string
	at := 0
	for _, end := range postgresEnds(message) {
		kind, body := message[at], message[at+5:end]
		at = end
		switch kind {
		case 'P': // a name and a statement
			name, rest, _ := bytes.Cut(body, []byte{0})
			sql, _, _ := bytes.Cut(rest, []byte{0})
			words = append(words, "parse "+digest(string(sql)))
			p.names.Store(string(name), digest(string(sql)))
		case 'B': // a portal and the name of a statement
			_, rest, _ := bytes.Cut(body, []byte{0})
			name, _, _ := bytes.Cut(rest, []byte{0})
			known, _ := p.names.Load(string(name))
			words = append(words, fmt.Sprint("run ", known))
		case 'Q':
			words = append(words, "query "+digest(string(bytes.TrimRight(body, "\x00"))))
		}
	}
	return strings.Join(words, ", ")
}

var (
	target  = regexp.MustCompile(`(?i)\b(INSERT INTO|UPDATE|DELETE FROM|FROM)\s+(\w+)`)
	opening = regexp.MustCompile(`^\s*(\w+)`)
)

// digest shortens a statement to its verb and its first table.
func digest(sql string) string {
	if found := target.FindStringSubmatch(sql); found != nil {
		verb := strings.ToUpper(found[1])
		if verb == "FROM" {
			verb = "SELECT FROM"
		}
		return verb + " " + found[2]
	}
	if found := opening.FindStringSubmatch(sql); found != nil {
		return found[1]
	}
	return "nothing"
}
