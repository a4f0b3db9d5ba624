package main

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestARequestWithoutItsAnswerIsAnError: what is measured afterwards would be
// another database than the report says. No answer is no success either, and
// hides no other failure.
func TestARequestWithoutItsAnswerIsAnError(t *testing.T) {
	t.Parallel()
	const hangUp = 0
	for name, test := range map[string]struct {
		first, rest int
		fails       bool
	}{
		"all are answered":                 {created, created, false},
		"one is answered otherwise":        {http.StatusServiceUnavailable, created, true},
		"one isn't answered":               {hangUp, created, true},
		"none is answered as it is wanted": {http.StatusServiceUnavailable, hangUp, true},
		"none is answered":                 {hangUp, hangUp, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				status := test.rest
				if n.Add(1) == 1 {
					status = test.first
				}
				if status == hangUp {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(status)
			}))
			defer server.Close()
			l := load{server.Listener.Addr().String(), func() call { return call{method: http.MethodGet, path: "/"} }}
			if err := l.sendAll(100, created); (err != nil) != test.fails {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAConnectionMayCloseAsItIsTaken: the server closes an idle connection, and
// its client is taken before it has noticed. The request counts as one without
// an answer.
func TestAConnectionMayCloseAsItIsTaken(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	began, r := time.Now(), new(recorder)
	get := call{method: http.MethodGet, path: "/"}
	c := newCrowd(load{address: server.Listener.Addr().String()}, r)
	c.waiting.Add(1)
	first, left := c.take(0), make(chan struct{})
	go func() { c.join(first, get); close(left) }()
	c.waiting.Wait()
	c.waiting.Add(1)
	again := c.take(0)
	server.CloseClientConnections()
	<-left
	again.writeOrEnd(get)
	c.waiting.Wait()
	if counted := r.between(began, time.Now()); again != first || len(counted) != 2 || counted[0].status != http.StatusOK || counted[1].status != 0 {
		t.Errorf("taken again: %t; counted: %+v", again == first, counted)
	}
}
