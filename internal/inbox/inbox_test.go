package inbox_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	netsmtp "net/smtp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/inbox"
)

// serve runs the mail server of an inbox, and returns a function that sends to
// it.
func serve(t *testing.T, kept *inbox.Inbox) (send func(message string) error) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := kept.MailServer()
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return func(message string) error {
		return netsmtp.SendMail(listener.Addr().String(), nil, "from@example.com", []string{"to@example.com"},
			[]byte(strings.ReplaceAll(message, "\n", "\r\n")))
	}
}

func ask(t *testing.T, kept *inbox.Inbox, method, accept string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), method, "/", http.NoBody)
	request.Header.Set("Accept", accept)
	kept.ServeHTTP(answer, request)
	return answer
}

func TestInboxShowsTheNewestFirst(t *testing.T) {
	t.Parallel()
	kept := new(inbox.Inbox)
	if got := ask(t, kept, "GET", "*/*").Body.String(); got != "[]\n" {
		t.Errorf("an empty inbox is %q", got)
	}
	send := serve(t, kept)
	for _, message := range []string{`Subject: First
Message-ID: <1@example.com>
Content-Type: text/plain

plain
`, `Subject: =?UTF-8?q?Second_=E2=9C=93?=
Message-ID: <2@example.com>
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--b
Content-Type: text/html; charset=UTF-8
Content-Transfer-Encoding: base64

PHA+PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0PjwvcD4=
--b--
`} {
		if err := send(message); err != nil {
			t.Fatal(err)
		}
	}
	var got []inbox.Message
	if err := json.Unmarshal(ask(t, kept, "GET", "*/*").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []inbox.Message{
		{To: "to@example.com", Subject: "Second ✓", Text: "café", HTML: "<p><script>alert(1)</script></p>", MessageID: "2@example.com"},
		{To: "to@example.com", Subject: "First", Text: "plain\r\n", MessageID: "1@example.com"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	page := ask(t, kept, "GET", "text/html,*/*")
	if body := page.Body.String(); !strings.Contains(body, "Second ✓") || strings.Contains(body, "<script") ||
		!strings.Contains(page.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the page is %s", body)
	}
	if code := ask(t, kept, "DELETE", "*/*").Code; code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE is answered with %d", code)
	}
}

func TestInboxIsBounded(t *testing.T) {
	t.Parallel()
	kept := new(inbox.Inbox)
	send := serve(t, kept)
	if err := send("Subject: Long\nContent-Type: text/plain\n\n" + strings.Repeat(strings.Repeat("x", 78)+"\n", 1<<14)); err == nil {
		t.Error("a message of more than a megabyte is taken")
	}
	if err := send("Subject: None\nContent-Type: ;\n\n"); err == nil {
		t.Error("a message that can't be read is taken")
	}
	for i := range 1002 {
		if err := send(fmt.Sprintf("Subject: %d\nContent-Type: text/plain\n\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := kept.Messages(); len(got) != 1000 || got[0].Subject != "1001" || got[999].Subject != "2" {
		t.Errorf("there are %d messages, from %s", len(got), got[0].Subject)
	}
}
