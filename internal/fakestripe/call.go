package fakestripe

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
)

// apiVersion is the version of Stripe's API that the fake has.
const apiVersion = "2023-10-16"

// maxBody is the size of the largest request body that is accepted, in bytes.
const maxBody = 1 << 20

// call is one request to Stripe's API on its way through the fake.
type call struct {
	send    Send
	header  http.Header
	account string // that the API key belongs to
	fields  []field
	refuse  *apiError // what is wrong with the form, or nil
	route   *route    // nil if there is none
	id      string    // in the path
	plan    plan
	limited string // which limit refuses it, or ""
}

// serveStripe handles a request in the steps that Stripe takes: it arrives; it
// is refused, answered from its key, or executed; the answer leaves. The faults
// act between these steps. The context of the request is ignored: a request
// that has arrived as a whole is executed, whether or not its client still
// waits.
func (s *Server) serveStripe(w http.ResponseWriter, r *http.Request) {
	c := s.receive(w, r)
	a, err := s.process(c)
	switch {
	case err != nil && !errors.Is(err, errClosed):
		s.log.LogAttrs(r.Context(), slog.LevelError, "the fake Stripe has stopped", slog.Any("error", err))
		panic(http.ErrAbortHandler)
	case err != nil:
		panic(http.ErrAbortHandler)
	}
	if r.Method == http.MethodPost {
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("path", c.send.Path), slog.String("key", c.send.Key),
			slog.Int("status", a.status), slog.Bool("replayed", a.replayed), slog.String("fault", string(c.plan.name())),
			slog.String("request_id", c.send.RequestID))
	}
	s.deliver(w, c, a)
}

// receive reads a request.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) *call {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	c := &call{header: r.Header, account: accountOf(apiKey(r.Header.Get("Authorization"))), send: Send{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Body: string(body),
		Key: r.Header.Get("Idempotency-Key"), RequestID: newID("req"),
		InFlight: err == nil, Incomplete: err != nil,
	}}
	c.route, c.id = find(s.routes, r.Method, r.URL.Path)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		c.send.Body, c.send.InFlight, c.send.Incomplete = "", true, false
		c.refuse = refuse(http.StatusRequestEntityTooLarge, typeInvalid, "", "Invalid request: more than %d bytes.", maxBody)
		return c
	}
	c.readFields()
	return c
}

// readFields decodes the query, and the body of a POST.
func (c *call) readFields() {
	if c.fields, c.refuse = decode(c.send.Query); c.refuse != nil || c.send.Method != http.MethodPost || c.send.Body == "" {
		return
	}
	if kind, _, err := mime.ParseMediaType(c.header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		c.refuse = invalid("", "", "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "+
			"If you have questions, we can help at https://support.stripe.com/.")
		return
	}
	body, err := decode(c.send.Body)
	c.fields, c.refuse = append(c.fields, body...), err
}

// process returns the answer to a request. By then everything that the answer
// shows is on disk. An error means that the server has stopped.
func (s *Server) process(c *call) (answer, error) {
	var a answer
	decided := true
	if _, err := s.underLock(func() error {
		if err := s.arrive(c); err != nil || c.send.Incomplete {
			a.drop = true
			return err
		}
		a, decided = s.admit(c)
		return nil
	}); err != nil {
		return answer{}, err
	}
	if err := s.wait(c.plan.before); err != nil {
		return answer{}, err
	}
	if err := s.update(func() (err error) {
		if decided {
			return s.end(c, a)
		}
		a, err = s.execute(c)
		return err
	}); err != nil {
		return answer{}, err
	}
	return a, s.wait(c.plan.after)
}

// arrive adds a request to the ledger, and decides which faults hit it. The
// caller holds the lock.
func (s *Server) arrive(c *call) error {
	s.lastSeq++
	c.limited = s.traffic.arrive(c.endpoint())
	c.send.Seq, c.send.At = s.lastSeq, s.now()
	if !c.send.Incomplete {
		withParams := c.send.withParams()
		c.plan = s.plan(&withParams)
	}
	c.send.Fault = c.plan.name()
	if c.send.Method == http.MethodPost {
		return s.commit(&change{Arrival: &c.send})
	}
	if s.reads = append(s.reads, c.send); len(s.reads) > maxReads {
		s.reads = slices.Delete(s.reads, 0, maxReads/10)
	}
	s.announce()
	return nil
}

// admit returns the answer to a request that is not executed, because it is
// refused or because its key decides, and reports whether there is one. Any
// other request puts its key in use. The caller holds the lock.
func (s *Server) admit(c *call) (answer, bool) {
	if err := authenticate(c.header); err != nil && c.plan.Kind != DropBefore {
		return err.answer(), true
	}
	if c.limited != "" {
		return overLimit(c.limited), true
	}
	if a, refused := c.plan.refusal(&c.send); refused {
		return a, true
	}
	if err := c.check(); err != nil {
		return err.answer(), true
	}
	if c.send.Method != http.MethodPost || c.send.Key == "" || c.account == otherAccount {
		return answer{}, false
	}
	a, decided := s.recall(c)
	if !decided {
		s.running[c.send.Key] = c
	}
	return a, decided
}

// check returns what is wrong with a request, apart from what its route checks.
func (c *call) check() *apiError {
	version := c.header.Get("Stripe-Version")
	switch {
	case c.route == nil:
		return unrecognized(c.send.Method, c.send.Path)
	case version != "" && version != apiVersion:
		return invalid("", "", "Invalid Stripe API version: %s. The fake speaks only %s.", version, apiVersion)
	case c.refuse != nil:
		return c.refuse
	case c.send.Method != http.MethodPost:
		return nil
	case len(c.header.Values("Idempotency-Key")) > 1:
		return invalid("", "", "The header Idempotency-Key was sent twice.")
	case len(c.send.Key) > maxKey:
		return invalid("", "", "Idempotency keys can be at most %d characters long; yours has %d.", maxKey, len(c.send.Key))
	}
	return nil
}

// end notes in the ledger how a request ended. The caller holds the lock.
func (s *Server) end(c *call, a answer) error {
	end := &answered{Seq: c.send.Seq, Status: a.status, Replayed: a.replayed}
	if c.send.Method == http.MethodPost {
		return s.commit(&change{Answered: end})
	}
	end.update(s.reads)
	s.announce()
	return nil
}
