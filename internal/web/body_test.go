package web

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A lineLog hands on each line that is logged to it.
type lineLog chan []byte

func (l lineLog) Write(line []byte) (int, error) {
	l <- bytes.Clone(line)
	return len(line), nil
}

// sendRaw sends bytes to a server whose one route reads JSON, hangs up for
// writing, and returns what comes back, the line in the log, and the metrics.
func sendRaw(t *testing.T, raw string) (answer string, line map[string]any, counted string) {
	t.Helper()
	log, registry := make(lineLog, 8), prometheus.NewRegistry()
	router := NewRouter(slog.New(slog.NewJSONHandler(log, nil)), registry)
	router.Post("/v1/boats", func(w http.ResponseWriter, r *Request, _ string, _ error) error {
		body, err := ReadJSON(w, r)
		if err != nil {
			return err
		}
		return AnswerJSON(w, r, http.StatusOK, string(body))
	})
	server := httptest.NewServer(router)
	defer server.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
		t.Fatal("the connection can't be closed for writing only")
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(<-log, &line); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "rides_http_requests_total" {
			counted = family.String()
		}
	}
	return string(got), line, counted
}

// TestAClientThatGoesAwayIsNotAFailure: it gets no answer, and the log and the
// metrics don't blame the service.
func TestAClientThatGoesAwayIsNotAFailure(t *testing.T) {
	t.Parallel()
	const head = "POST /v1/boats HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
	for name, raw := range map[string]string{
		"with half of the body missing": head + "Content-Length: 50\r\n\r\n{\"a\":",
		"with all of the body missing":  head + "Content-Length: 50\r\n\r\n",
		"within a chunk":                head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{",
		"before the last chunk":         head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, line, counted := sendRaw(t, raw)
			if answer != "" {
				t.Errorf("it was answered %q", answer)
			}
			if line["level"] != "INFO" || line["code"] != "client_gone" || line["status"] != 499.0 {
				t.Errorf("the log says %v", line)
			}
			if _, blamed := line["error"]; blamed || !strings.Contains(counted, `value:"client_gone"`) || !strings.Contains(counted, `value:"499"`) {
				t.Errorf("the metrics say %s, the log %v", counted, line)
			}
		})
	}
}

func TestABodyThatIsBroken(t *testing.T) {
	t.Parallel()
	answer, line, _ := sendRaw(t, "POST /v1/boats HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n0\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "did not arrive whole") || line["code"] != "invalid_json" {
		t.Errorf("answered %q, the log says %v", answer, line)
	}
}

// TestIdentityIsNoCoding: a body that is said to be as it is may be read.
func TestIdentityIsNoCoding(t *testing.T) {
	t.Parallel()
	answer, _, _ := sendRaw(t, "POST /v1/boats HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Encoding: Identity\r\nContent-Length: 2\r\n\r\n{}")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("answered %q", answer)
	}
}

// TestWhatIsAcceptedInstead: a refused media type or coding is answered with
// the one that would have been right.
func TestWhatIsAcceptedInstead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header           string
		accept, encoding string
	}{
		"another type":      {"Content-Type: text/plain\r\n", "application/json", ""},
		"no type":           {"", "application/json", ""},
		"two types":         {"Content-Type: application/json\r\nContent-Type: application/json\r\n", "application/json", ""},
		"another character": {"Content-Type: application/json; charset=latin1\r\n", "application/json", ""},
		"compressed":        {"Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "", "identity"},
		"both":              {"Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", "application/json", "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, _, _ := sendRaw(t, "POST /v1/boats HTTP/1.1\r\nHost: a\r\n"+c.header+"Content-Length: 2\r\n\r\n{}")
			if !strings.HasPrefix(answer, "HTTP/1.1 415 ") {
				t.Errorf("answered %q", answer)
			}
			for name, want := range map[string]string{"Accept": c.accept, "Accept-Encoding": c.encoding} {
				if has := strings.Contains(answer, "\r\n"+name+": "); has != (want != "") || has && !strings.Contains(answer, "\r\n"+name+": "+want+"\r\n") {
					t.Errorf("%s should be %q in %q", name, want, answer)
				}
			}
		})
	}
}
