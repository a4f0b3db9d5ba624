package jobs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/wneessen/go-mail"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// A Mail sends e-mails through one server. It is safe for concurrent use.
type Mail struct {
	host    string
	options []mail.Option
	tls     *tls.Config // nil unless the connection begins with TLS
	from    string
	domain  string // of from
}

// NewMail returns a Mail that sends through the server at address:
//
//	smtp://user:password@host:587    STARTTLS is required
//	smtps://user:password@host:465   TLS from the beginning
//	smtp://host:25?starttls=never    no TLS, so no credentials either
//	smtp://127.0.0.1:25              STARTTLS if the server has it
//
// A port that is left out is the one above, and credentials may be left out.
// from is the sender, such as "Rocket Rides <receipts@example.com>". Errors
// don't show the address, which may hold a password.
func NewMail(address, from string) (*Mail, error) {
	sender, err := netmail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("the sender of e-mails, %q, is no address", from)
	}
	server, err := url.Parse(address)
	if err != nil || server.Hostname() == "" || strings.Trim(server.Path, "/") != "" || server.Fragment != "" {
		return nil, errors.New("the mail server must be smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://…")
	}
	m := &Mail{host: server.Hostname(), from: from, domain: sender.Address[strings.LastIndexByte(sender.Address, '@')+1:]}
	policy, err := tlsPolicy(server)
	if err != nil {
		return nil, err
	}
	port := 587
	if server.Scheme == "smtps" {
		m.tls = &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12}
		port = 465
	}
	if server.Port() != "" {
		if port, err = strconv.Atoi(server.Port()); err != nil || port < 1 || port > 65535 {
			return nil, errors.New("the mail server's port is no number from 1 to 65535")
		}
	}
	m.options = []mail.Option{mail.WithPort(port), mail.WithTLSPolicy(policy), mail.WithoutNoop(), mail.WithoutRset()}
	if server.User != nil {
		password, _ := server.User.Password()
		m.options = append(m.options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover),
			mail.WithUsername(server.User.Username()), mail.WithPassword(password))
	}
	return m, nil
}

// tlsPolicy returns when a connection to a mail server begins TLS. It returns an
// error if a password would be sent without.
func tlsPolicy(server *url.URL) (mail.TLSPolicy, error) {
	switch plain := server.RawQuery == "starttls=never"; {
	case server.Scheme == "smtps" && server.RawQuery == "":
		// The connection has TLS already. With this policy go-mail finds that
		// out; with NoTLS it would believe that there is none, and with
		// TLSMandatory demand it a second time.
		return mail.TLSOpportunistic, nil
	case server.Scheme != "smtp" || server.RawQuery != "" && !plain:
		return 0, errors.New("the mail server's URL begins with smtp:// or smtps://, and smtp:// takes ?starttls=never")
	case plain && server.User != nil:
		return 0, errors.New("starttls=never would send the mail server's password over the network as plain text")
	case plain:
		return mail.NoTLS, nil
	case server.User == nil && isThisMachine(server.Hostname()):
		return mail.TLSOpportunistic, nil // nobody is in between
	default:
		return mail.TLSMandatory, nil
	}
}

// isThisMachine reports whether a host is the machine itself.
func isThisMachine(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// A message is an e-mail. The same job makes the same message each time.
type message struct {
	to, subject, text, html string

	// id is the Message-ID without the domain.
	id   string
	date time.Time
}

// messageID returns the Message-ID of an e-mail, without the angle brackets.
func (m *Mail) messageID(e message) string { return e.id + "@" + m.domain }

// sendMail sends an e-mail, or logs it if there is no mail server.
func (c *Client) sendMail(ctx context.Context, e message) error {
	if c.config.Mail == nil {
		c.log.InfoContext(ctx, "no mail server is set, so an e-mail isn't sent", slog.String("subject", e.subject))
		return nil
	}
	line := trace.LineOf(ctx)
	line.Set(slog.String("message_id", c.config.Mail.messageID(e)))
	start := time.Now()
	err := c.config.Mail.send(ctx, e)
	line.AddForeign(time.Since(start))
	return err
}

// send sends an e-mail in a connection of its own, which ends with ctx. An
// error after the server has taken the e-mail is none. An error that no retry
// can help wraps river.JobCancel.
func (m *Mail) send(ctx context.Context, e message) error {
	letter := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := errors.Join(letter.From(m.from), letter.To(e.to)); err != nil {
		return river.JobCancel(fmt.Errorf("addressing the e-mail: %w", err))
	}
	letter.Subject(e.subject)
	letter.SetMessageIDWithValue(m.messageID(e))
	letter.SetDateWithValue(e.date)
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office replies
	letter.SetBodyString(mail.TypeTextPlain, e.text)
	letter.AddAlternativeString(mail.TypeTextHTML, e.html)

	// go-mail knows no context once it is connected, and leaves the connection
	// open after some errors. So it ends with this context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := m.dial(dialing, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	client, err := mail.NewClient(m.host, append([]mail.Option{mail.WithDialContextFunc(dial)}, m.options...)...)
	if err != nil {
		return fmt.Errorf("preparing the e-mail: %w", err)
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the mail server: %w", err)
	}
	err = client.SendWithSMTPClient(session, letter)
	switch {
	case letter.IsDelivered():
		_ = session.Quit() // a courtesy
		return nil
	case isRefused(err):
		return river.JobCancel(fmt.Errorf("the address is refused: %w", err))
	default:
		return fmt.Errorf("sending the e-mail: %w", err)
	}
}

// isRefused reports whether the mail server says that the recipient's address
// doesn't exist or takes no e-mail (RFC 5321, section 4.2.3; RFC 3463, class
// 5.1). Other refusals may be about this server or this sender, and somebody
// can mend that.
func isRefused(err error) bool {
	refusal, ok := errors.AsType[*mail.SendError](err)
	if !ok || refusal.Reason != mail.ErrSMTPRcptTo || refusal.IsTemp() {
		return false
	}
	if code := refusal.EnhancedStatusCode(); code != "" {
		return strings.HasPrefix(code, "5.1.")
	}
	code := refusal.ErrorCode()
	return code == 550 || code == 551 || code == 553
}

// dial connects to the mail server.
func (m *Mail) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.tls != nil {
		return (&tls.Dialer{Config: m.tls}).DialContext(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}
