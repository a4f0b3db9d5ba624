package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/inbox"
)

// mailFrom is the sender of the sandbox's receipts. Nothing is sent to it.
const mailFrom = "Rocket Rides <receipts@example.com>"

// A mailbox is the mail server of the sandbox, and the inbox that shows what it
// got. Both run in this process, and keep nothing when it ends.
type mailbox struct {
	smtpURL, url string
	stop         func()
}

// startMailbox starts both on free ports.
func startMailbox(ctx context.Context) (mailbox, error) {
	var listeners [2]net.Listener
	for i := range listeners {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			for _, taken := range listeners[:i] {
				_ = taken.Close()
			}
			return mailbox{}, fmt.Errorf("starting the inbox: %w", err)
		}
		listeners[i] = listener
	}
	kept := new(inbox.Inbox)
	mail, page := kept.MailServer(), cli.NewServer(kept, slog.New(slog.DiscardHandler))
	page.WriteTimeout = 10 * time.Second
	mailEnded, pageEnded := make(chan error, 1), make(chan error, 1)
	go func() { mailEnded <- mail.Serve(listeners[0]) }()
	go func() { pageEnded <- page.Serve(listeners[1]) }()
	return mailbox{
		smtpURL: "smtp://" + listeners[0].Addr().String() + "?starttls=never",
		url:     "http://" + listeners[1].Addr().String(),
		stop: func() {
			_ = errors.Join(mail.Close(), page.Close())
			_, _ = <-mailEnded, <-pageEnded
		},
	}, nil
}
