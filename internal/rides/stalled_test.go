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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/web"
)

// TestAWithheldBodyHoldsNobody: a client that promises a body and doesn't send
// it gets its answer, and loses its connection; net/http alone would wait for
// the rest of the body for ever.
func TestAWithheldBodyHoldsNobody(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	for name, test := range map[string]struct {
		request, sent string
		status        int
		code          web.Code
	}{
		"refused before it is read": {request: "POST /v1/rides HTTP/1.1\r\n", status: 401, code: web.CodeUnauthenticated},
		"of a GET":                  {request: "GET /v1/rides/ride_x HTTP/1.1\r\nAuthorization: Bearer " + w.visa.APIKey.Reveal() + "\r\n", status: 404, code: web.CodeNotFound},
		"stalled in its middle": {
			request: "POST /v1/rides HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nAuthorization: Bearer " + w.visa.APIKey.Reveal() + "\r\n",
			sent:    `{"origin"`, status: 400, code: web.CodeInvalidJSON,
		},
		"too large by its own account": {
			request: "POST /v1/rides HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 70000\r\nAuthorization: Bearer " + w.visa.APIKey.Reveal() + "\r\n",
			status:  413, code: web.CodeBodyTooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.api, "http://"))
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
	if n := number(t, w, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d keys were claimed", n)
	}
}

// TestMetricsDoNotGrowWithWhatClientsSend: methods and paths are the clients'
// to invent.
func TestMetricsDoNotGrowWithWhatClientsSend(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	registry := prometheus.NewRegistry()
	w.service.meters = newHTTPMeters(registry)
	series := func() (n int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			n += len(family.GetMetric())
		}
		return n
	}
	send := func(i int) {
		for _, path := range []string{"/v1/rides", fmt.Sprint("/x", i)} {
			w.send(t, call{method: fmt.Sprint("EVIL", i), path: path})
		}
	}
	send(0)
	before := series()
	for i := range 20 {
		send(i)
	}
	if after := series(); before == 0 || after != before {
		t.Errorf("%d series became %d", before, after)
	}
}
