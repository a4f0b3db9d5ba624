// Package inbox is a mail server that keeps what it gets, and shows it as a
// page and as JSON. It is for the sandbox and for tests.
package inbox

import (
	"cmp"
	"io"
	"log"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	// defaultKeep is how many messages an Inbox keeps that isn't told.
	defaultKeep = 1000

	// maxBytes is the most that a message may have.
	maxBytes = 1 << 20

	// timeout bounds the wait for a client's next command.
	timeout = time.Minute
)

// A Message is an e-mail as it was received.
type Message struct {
	To        string `json:"to"`
	Subject   string `json:"subject"`
	Text      string `json:"text"`
	HTML      string `json:"html"`
	MessageID string `json:"message_id"` // without the angle brackets
}

// An Inbox keeps the newest messages, in memory. It is safe for concurrent use;
// its zero value is empty.
type Inbox struct {
	// Keep is how many messages are kept. 0 means 1,000.
	Keep int

	mu       sync.Mutex
	messages []Message // the oldest first
}

// Messages returns the messages, the newest first.
func (i *Inbox) Messages() []Message {
	i.mu.Lock()
	defer i.mu.Unlock()
	messages := make([]Message, 0, len(i.messages)) // [] in JSON, not null
	for _, m := range slices.Backward(i.messages) {
		messages = append(messages, m)
	}
	return messages
}

func (i *Inbox) add(m Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.messages = append(i.messages, m)
	i.messages = i.messages[max(0, len(i.messages)-cmp.Or(i.Keep, defaultKeep)):]
}

// MailServer returns an SMTP server (RFC 5321) that puts into the inbox what it
// gets. It takes mail from everybody to everybody, without TLS and without
// authentication.
func (i *Inbox) MailServer() *smtp.Server {
	server := smtp.NewServer(i)
	server.Domain = "localhost"
	server.ErrorLog = log.New(io.Discard, "", 0) // clients that hang up are no matter
	server.ReadTimeout, server.WriteTimeout = timeout, timeout
	server.MaxMessageBytes, server.MaxRecipients = maxBytes, 1
	return server
}

// NewSession makes the inbox a backend of the SMTP server.
func (i *Inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{inbox: i}, nil }

// A session is a client's connection.
type session struct {
	inbox *Inbox
	to    string
}

// Mail begins a message.
func (*session) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt takes the recipient.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return nil
}

// Data takes the message.
func (s *session) Data(r io.Reader) error {
	m, err := read(r)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: err.Error()}
	}
	m.To = s.to
	s.inbox.add(m)
	return nil
}

// Reset forgets the message that was begun.
func (s *session) Reset() { s.to = "" }

// Logout ends the session.
func (*session) Logout() error { return nil }
