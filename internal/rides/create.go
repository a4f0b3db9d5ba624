package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

const ridesRoute = "/v1/rides"

// createRide answers POST /v1/rides. The order of the checks is part of the
// contract: a refused request consumes no key, and what a key was answered once
// it is answered always.
func (s *Service) createRide(w http.ResponseWriter, r *http.Request) error {
	params, err := web.ReadJSON(w, r)
	if err != nil {
		return err
	}
	x := visitOf(r.Context())
	if x.keyErr != nil {
		return x.keyErr
	}
	async := web.PrefersAsync(r.Header)
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
		CanonVersion: web.CanonVersion,
		Hash: func(version int) ([]byte, bool) {
			hash := web.RequestHash(r.Method, ridesRoute, nil, params)
			return hash[:], version == web.CanonVersion
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
		refused := web.NewProblemError(web.CodeInvalidParameters, nil)
		refused.Problem.Errors = faults
		return refused
	}
	return nil
}

// keyed is for routes that need an Idempotency-Key: every answer of theirs
// echoes it, refusals included, so that a client can tell which of its requests
// was answered. What has the wrong form is not echoed; the route itself refuses
// it, after the checks that come first.
func keyed(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		x := visitOf(r.Context())
		if x.key, x.keyErr = web.ParseIdempotencyKey(r.Header); x.keyErr == nil {
			w.Header().Set("Idempotency-Key", x.key)
		}
		return next(w, r)
	}
}

// answer writes a definitive answer: the stored status, headers and bytes,
// whoever computed them.
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

// storedCode is the code of an answer that is a problem, else "". It is read
// off the stored bytes, which another release may have written and which are
// what the client sees.
func storedCode(stored phases.Answer) web.Code {
	var problem struct {
		Code web.Code `json:"code"`
	}
	if stored.Headers["Content-Type"] != web.ProblemType || json.Unmarshal(stored.Body, &problem) != nil {
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

// pendingRide is the ride of an unfinished key. A key may exist shortly before
// its ride does; what the ride will be follows from the key.
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
	ride.Status, ride.Charge = StatusPending, nil
	return ride, nil
}
