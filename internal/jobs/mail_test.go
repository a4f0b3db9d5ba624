package jobs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/riverqueue/river/rivertype"
	"github.com/wneessen/go-mail"

	"github.com/rocketrides/rocketrides/internal/inbox"
)

// serveMail runs a mail server until the end of the test, and returns its
// address.
func serveMail(t *testing.T, server *smtp.Server, withTLS bool) string {
	t.Helper()
	server.ErrorLog = log.New(io.Discard, "", 0)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if withTLS {
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return address
}

// sendTo does one round whose e-mails go to an inbox.
func (b *bundle) sendTo(t *testing.T, kept *inbox.Inbox) {
	t.Helper()
	// The inbox has no TLS. On this machine it needs none.
	sender, err := NewMail("smtp://"+serveMail(t, kept.MailServer(), false), "Rocket Rides <receipts@example.com>")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(b.config(t, nil, func(c *Config) { c.Mail = sender }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMailServerURLs(t *testing.T) {
	t.Parallel()
	const from = "Rocket Rides <receipts@example.com>"
	for _, url := range []string{
		"smtp://example.com", "smtp://example.com:25", "smtp://u:p@example.com:587/", "smtps://u:p%40@example.com",
		"smtp://127.0.0.1:1025?starttls=never", "smtp://[::1]:1025?starttls=never",
	} {
		if _, err := NewMail(url, from); err != nil {
			t.Errorf("%s is refused: %v", url, err)
		}
	}
	for _, url := range []string{
		"example.com", "example.com:587", "http://u:hunter2@example.com", "smtp://", "smtp://u:hunter2@:587", "smtp://example.com/path",
		"smtp://u:hunter2@example.com?starttls=never", "smtps://example.com?starttls=never", "smtp://u:hunter2@example.com?tls=1",
		"smtp://u:hunter2@exa mple.com", "smtp://u:hunter2@example.com:port",
		"smtp://u:hunter2@example.com:0", "smtp://u:hunter2@example.com:65536",
	} {
		if _, err := NewMail(url, from); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, from := range []string{"", "Rocket Rides", "receipts@"} {
		if _, err := NewMail("smtp://example.com", from); err == nil {
			t.Errorf("the sender %q is accepted", from)
		}
	}
}

// A backend demands a password, and refuses what a test wants refused.
type backend struct {
	*inbox.Inbox
	refusal *smtp.SMTPError
	hangsUp bool // when it has a message
}

func (b backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	session, err := b.Inbox.NewSession(c)
	return &secured{Session: session, backend: b, conn: c}, err
}

type secured struct {
	smtp.Session
	backend       backend
	conn          *smtp.Conn
	authenticated bool
	hangsUp       bool
}

func (*secured) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *secured) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "ann" || password != "hunter2" {
			return smtp.ErrAuthFailed
		}
		s.authenticated = true
		return nil
	}), nil
}

func (s *secured) Rcpt(to string, o *smtp.RcptOptions) error {
	switch {
	case !s.authenticated:
		return smtp.ErrAuthRequired
	case s.backend.refusal != nil:
		return s.backend.refusal
	default:
		return s.Session.Rcpt(to, o)
	}
}

func (s *secured) Data(r io.Reader) error {
	s.hangsUp = s.backend.hangsUp
	return s.Session.Data(r)
}

// Reset is called after the answer to DATA.
func (s *secured) Reset() {
	s.Session.Reset()
	if s.hangsUp {
		_ = s.conn.Conn().Close()
	}
}

// securedServer returns a mail server with a certificate, and what a client
// needs to trust it.
func securedServer(t *testing.T, b backend) (*smtp.Server, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
	server := smtp.NewServer(b)
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	return server, trusted
}

// trust makes a Mail trust a certificate of its own.
func (m *Mail) trust(pool *x509.CertPool) {
	config := &tls.Config{RootCAs: pool, ServerName: m.host, MinVersion: tls.VersionTLS12}
	if m.tls != nil {
		m.tls = config
	}
	m.options = append(m.options, mail.WithTLSConfig(config))
}

func letterTo(id string) message {
	return message{to: "ann@example.com", subject: "Hello", text: "text", html: "<p>html</p>", id: id, date: time.Now()}
}

// Credentials and e-mails go over TLS only: by STARTTLS, or from the beginning.
func TestMailGoesOverTLS(t *testing.T) {
	t.Parallel()
	for scheme, fromTheBeginning := range map[string]bool{"smtp": false, "smtps": true} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			kept := new(inbox.Inbox)
			server, trusted := securedServer(t, backend{Inbox: kept})
			sender, err := NewMail(scheme+"://ann:hunter2@"+serveMail(t, server, fromTheBeginning), "receipts@example.com")
			if err != nil {
				t.Fatal(err)
			}
			if err := sender.send(t.Context(), letterTo("a")); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("a server that nobody vouches for gets an e-mail: %v", err)
			}
			sender.trust(trusted)
			if err := sender.send(t.Context(), letterTo("a")); err != nil {
				t.Fatal(err)
			}
			if got := kept.Messages(); len(got) != 1 || got[0].MessageID != "a@example.com" {
				t.Errorf("the server got %+v", got)
			}
		})
	}
	t.Run("a server without STARTTLS gets nothing", func(t *testing.T) {
		t.Parallel()
		kept := new(inbox.Inbox)
		server := smtp.NewServer(backend{Inbox: kept})
		server.AllowInsecureAuth = true
		sender, err := NewMail("smtp://ann:hunter2@"+serveMail(t, server, false), "receipts@example.com")
		if err != nil {
			t.Fatal(err)
		}
		if err := sender.send(t.Context(), letterTo("a")); err == nil || !strings.Contains(err.Error(), "STARTTLS") || len(kept.Messages()) != 0 {
			t.Errorf("it got an e-mail: %v", err)
		}
	})
}

// Only an address that the mail server knows not to exist makes a job dead at
// once. Everything else may be mended, or pass.
func TestRefusalsOfTheMailServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		refusal *smtp.SMTPError
		dead    bool
	}{
		{&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}, true},
		{&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "you may not relay"}, false},
		{&smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "try later"}, false},
		{&smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no such user"}, true},
		{&smtp.SMTPError{Code: 552, EnhancedCode: smtp.NoEnhancedCode, Message: "mailbox full"}, false},
	} {
		server, trusted := securedServer(t, backend{Inbox: new(inbox.Inbox), refusal: c.refusal})
		sender, err := NewMail("smtp://ann:hunter2@"+serveMail(t, server, false), "receipts@example.com")
		if err != nil {
			t.Fatal(err)
		}
		sender.trust(trusted)
		err = sender.send(t.Context(), letterTo("a"))
		if dead := errors.As(err, new(*rivertype.JobCancelError)); err == nil || dead != c.dead {
			t.Errorf("after %v the job is dead: %t, want %t (%v)", c.refusal, dead, c.dead, err)
		}
	}
}

// What the mail server has taken is sent, even if the connection breaks then.
func TestAMailThatWasTakenIsSent(t *testing.T) {
	t.Parallel()
	kept := new(inbox.Inbox)
	server, trusted := securedServer(t, backend{Inbox: kept, hangsUp: true})
	sender, err := NewMail("smtp://ann:hunter2@"+serveMail(t, server, false), "receipts@example.com")
	if err != nil {
		t.Fatal(err)
	}
	sender.trust(trusted)
	if err := sender.send(t.Context(), letterTo("a")); err != nil || len(kept.Messages()) != 1 {
		t.Errorf("%v, and the server has %d messages", err, len(kept.Messages()))
	}
}
