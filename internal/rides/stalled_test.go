package rides

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/web"
)

// TestAWithheldBodyDelaysNoAnswer: a client that announces a body and doesn't
// send it gets its answer and loses its connection. net/http by itself would
// wait for the rest of the body for ever.
func TestAWithheldBodyDelaysNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for name, test := range map[string]struct {
		request, sent string
		status        int
		code          web.Code
	}{
		"refused before it is read": {request: "POST /v1/rides HTTP/1.1\r\n", status: 401, code: web.CodeUnauthenticated},
		"of a GET":                  {request: "GET /v1/rides/ride_x HTTP/1.1\r\nAuthorization: Bearer " + h.visa.APIKey.Reveal() + "\r\n", status: 404, code: web.CodeNotFound},
		"stalled in its middle": {
			request: "POST /v1/rides HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nAuthorization: Bearer " + h.visa.APIKey.Reveal() + "\r\n",
			sent:    `{"origin"`, status: 408, code: web.CodeRequestTimeout,
		},
		"too large by its own account": {
			request: "POST /v1/rides HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 70000\r\nAuthorization: Bearer " + h.visa.APIKey.Reveal() + "\r\n",
			status:  413, code: web.CodeBodyTooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.api, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			length := "Content-Length: 500\r\n"
			if strings.Contains(test.request, "Content-Length") {
				length = ""
			}
			fmt.Fprintf(conn, "%sHost: x\r\n%s\r\n%s", test.request, length, test.sent)
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != test.status || !strings.Contains(string(body), `"code":"`+string(test.code)+`"`) {
				t.Errorf("got %d %s, want %d %s", answer.StatusCode, body, test.status, test.code)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection goes on: %v", err)
			}
		})
	}
	if n := number(t, h, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d keys were claimed", n)
	}
}
