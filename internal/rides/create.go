package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	// maxBody is the most that a request's body may have.
	maxBody = 64 << 10
	// bodyTimeout bounds the reading of a body.
	bodyTimeout = 10 * time.Second

	ridesRoute = "/v1/rides"
)

// createRide answers POST /v1/rides. The order of the checks is part of the contract: a refused request consumes no
// key, and what a key was answered once it is answered always.
func (s *Service) createRide(w http.ResponseWriter, r *http.Request) error {
	params, err := readJSON(w, r)
	if err != nil {
		return err
	}
	x := visitOf(r.Context())
	if x.keyErr != nil {
		return x.keyErr
	}
	async := prefersAsync(r.Header)
	result, err := s.engine.Run(r.Context(), s.hail, s.request(r, x.key, params, async))
	if err != nil {
		return err
	}
	if result.Pending {
		return s.accepted(w, r, result.Key)
	}
	return answer(w, r, result)
}

// request is what the engine must know of a request.
func (s *Service) request(r *http.Request, key string, params []byte, async bool) phases.Request {
	who := principalOf(r.Context())
	return phases.Request{
		Account:      who.account,
		Key:          key,
		RequestID:    visitOf(r.Context()).requestID,
		Method:       r.Method,
		Path:         r.URL.Path,
		Params:       string(params),
		CanonVersion: CanonVersion,
		Hash: func(version int) ([]byte, bool) {
			hash := RequestHash(r.Method, ridesRoute, nil, params)
			return hash[:], version == CanonVersion
		},
		Check: func() error { return s.checkRide(params) },
		Async: async,
		Known: []any{who.payer},
	}
}

// checkRide validates the parameters of a new ride.
func (s *Service) checkRide(params []byte) error {
	_, faults, err := ParseRide(params, s.maxFare)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		refused := NewProblemError(CodeInvalidParameters, nil)
		refused.Problem.Errors = faults
		return refused
	}
	return nil
}

// keyed is for routes that need an Idempotency-Key: every answer of theirs echoes it, refusals included, so that a
// client can tell which of its requests was answered. What has the wrong form is not echoed; the route itself refuses
// it, after the checks that come first.
func keyed(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		x := visitOf(r.Context())
		if x.key, x.keyErr = ParseIdempotencyKey(r.Header); x.keyErr == nil {
			w.Header().Set("Idempotency-Key", x.key)
		}
		return next(w, r)
	}
}

// answer writes a definitive answer: the stored status, headers and bytes, whoever computed them.
func answer(w http.ResponseWriter, r *http.Request, result phases.Result) error {
	x := visitOf(r.Context())
	x.replayed, x.code = result.Replayed, storedCode(result.Answer)
	for name, value := range result.Answer.Headers {
		w.Header().Set(name, value)
	}
	if result.Replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	write(w, r, result.Answer.Status, result.Answer.Body)
	return nil
}

// storedCode is the code of an answer that is a problem, else "". It is read off the stored bytes, which another
// release may have written and which are what the client sees.
func storedCode(stored phases.Answer) Code {
	var problem struct {
		Code Code `json:"code"`
	}
	if stored.Headers["Content-Type"] != ProblemType || json.Unmarshal(stored.Body, &problem) != nil {
		return ""
	}
	return problem.Code
}

// accepted writes 202: the ride goes on by itself (RFC 7240, section 4.1).
func (s *Service) accepted(w http.ResponseWriter, r *http.Request, key phases.Key) error {
	ride, err := s.pendingRide(r.Context(), key)
	if err != nil {
		return err
	}
	body, err := ride.Encode()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", ridePath(ride.ID))
	w.Header().Set("Preference-Applied", "respond-async")
	w.Header().Set("Vary", "Prefer")
	write(w, r, http.StatusAccepted, body)
	return nil
}

// pendingRide is the ride of an unfinished key. A key may exist shortly before its ride does; what the ride will be
// follows from the key.
func (s *Service) pendingRide(ctx context.Context, key phases.Key) (Ride, error) {
	var ride Ride
	err := s.read(ctx, func(ctx context.Context) (err error) {
		ride, err = scanRide(s.pool.QueryRow(ctx, `
			SELECT `+rideColumns+`
			FROM `+rideTables+`
			WHERE r.account_id = $1 AND r.key = $2`,
			key.Account, key.Key), s.live)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return newRide(key, s.live)
	}
	if err != nil {
		return Ride{}, fmt.Errorf("reading ride: %w", err)
	}
	ride.Status, ride.Charge = RidePending, nil
	return ride, nil
}

// readJSON reads the body and returns its canonical form.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	mediaType, more, err := mime.ParseMediaType(strings.Join(r.Header.Values("Content-Type"), ", "))
	if err != nil || mediaType != "application/json" || strings.Join(r.Header.Values("Content-Encoding"), "") != "" ||
		more["charset"] != "" && !strings.EqualFold(more["charset"], "utf-8") {
		return nil, NewProblemError(CodeUnsupportedMediaType, err)
	}
	if r.ContentLength > maxBody {
		return nil, NewProblemError(CodeBodyTooLarge, nil) // also instead of 100 Continue
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{}) // the payment may take longer than the body
		w.Header().Del("Connection")             // nothing is left to wait for
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, NewProblemError(CodeBodyTooLarge, err)
	}
	if err != nil {
		return nil, cutShort(err)
	}
	canonical, err := Canonical(body)
	if err != nil {
		return nil, err
	}
	if canonical[0] != '{' {
		return nil, &JSONError{Reason: "The body is not a JSON object"}
	}
	return canonical, nil
}

// cutShort is the answer to a body that did not arrive whole, which is no fault of the document's.
func cutShort(err error) error {
	problem := NewProblemError(CodeInvalidJSON, fmt.Errorf("reading body: %w", err))
	problem.Problem.Detail = "The body did not arrive whole and in time. Send the request again."
	problem.Problem.Retryable = true
	return problem
}

// prefersAsync tells whether the client asked for respond-async (RFC 7240). Preferences that aren't known are
// ignored, as it says.
func prefersAsync(header http.Header) bool {
	for _, line := range header.Values("Prefer") {
		for _, preference := range elements(line) {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// elements cuts a field's line at the commas that stand in no quoted string (RFC 9110, section 5.6.4):
// foo="a, respond-async" is one preference, for foo.
func elements(line string) []string {
	var all []string
	var quoted, escaped bool
	from := 0
	for i, char := range line {
		switch {
		case escaped:
			escaped = false
		case char == '"':
			quoted = !quoted
		case quoted:
			escaped = char == '\\'
		case char == ',':
			all, from = append(all, line[from:i]), i+1
		}
	}
	return append(all, line[from:])
}
