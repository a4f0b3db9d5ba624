package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A keyedRoute is a route that needs an Idempotency-Key.
type keyedRoute struct {
	// flow is what the route does.
	flow phases.Flow
	// check validates the body of a request whose key has no row.
	check func(ctx context.Context, request *phases.Request, body []byte) error
	// ask asks Stripe about what such a request is for. nil means that nothing
	// is asked.
	ask func(ctx context.Context, request *phases.Request) error
	// pending returns the ride that a 202 shows for a key that is not finished.
	// nil means that the route ignores Prefer: respond-async.
	pending func(ctx context.Context, key phases.Key) (Ride, error)
	// waiting answers a request whose foreign call the other side is still
	// working on. nil means that it is refused as not settled.
	waiting func(w http.ResponseWriter, r *web.Request, account string, retryAfter time.Duration) error
	// refunds means that the route charges nothing, so that no answer says
	// whether a new key could charge twice.
	refunds bool
	// bodyOptional allows requests without a body, which equals {}.
	bodyOptional bool
}

// keyed returns the handler of a keyed route. The order of its checks is part
// of the contract: a refused request never consumes a key, and a stricter rule
// of a later release never changes the answer that a key already has.
func (s *Service) keyed(route keyedRoute) web.KeyedHandler {
	return func(w http.ResponseWriter, r *web.Request, key string, keyErr error) error {
		err := s.serveKeyed(w, r, route, key, keyErr)
		if err != nil && route.refunds {
			return web.WithoutSafeNewKey(err)
		}
		return err
	}
}

func (s *Service) serveKeyed(w http.ResponseWriter, r *web.Request, route keyedRoute, key string, keyErr error) error {
	who, err := s.authenticate(w, r)
	if err != nil {
		return err
	}
	body, err := route.readBody(w, r) // media type, size, JSON
	if err != nil {
		return err
	}
	if keyErr != nil {
		return keyErr
	}
	request, err := s.request(route, r, who, key, body)
	if err != nil {
		return err
	}
	// Looks the key up, and validates the parameters if it has no row.
	result, waited, err := s.run(r, route.flow, request, web.ReadPreferences(r.Header).Wait)
	web.SetApplied(w, web.Preferences{Async: result.Pending, Wait: waited})
	if foreign, ok := errors.AsType[*phases.ForeignError](err); ok && foreign.Waiting && route.waiting != nil {
		return route.waiting(w, r, who.AccountID, foreign.RetryAfter)
	}
	if err != nil {
		return err
	}
	if result.Pending {
		return route.accept(w, r, result.Key)
	}
	web.AnswerResult(w, r, result)
	return nil
}

func (k keyedRoute) readBody(w http.ResponseWriter, r *web.Request) ([]byte, error) {
	if k.bodyOptional {
		return web.ReadOptionalJSON(w, r)
	}
	return web.ReadJSON(w, r)
}

// request returns what the engine must know of a request. It refers to nothing
// of r, because an asynchronous attempt outlives r.
func (s *Service) request(route keyedRoute, r *web.Request, who accounts.Principal, key string, body []byte) (*phases.Request, error) {
	ids := r.PathIDs()
	params, err := flowParams(body, ids)
	if err != nil {
		return nil, err
	}
	hash := r.Hash(body)
	ctx := r.Context() // of Check and Ask, which run before an asynchronous attempt outlives r
	request := &phases.Request{
		Account:      who.AccountID,
		Key:          key,
		RequestID:    r.ID,
		Method:       r.Method,
		Path:         r.URL.Path,
		Params:       params,
		CanonVersion: web.CanonVersion,
		Hash:         func(version int) ([]byte, bool) { return hash[:], version == web.CanonVersion },
		Trace:        trace.Stored(r.Context()),
		Async:        route.pending != nil && web.ReadPreferences(r.Header).Async,
		Known:        []any{who},
	}
	request.Check = func() error { return s.checkNew(ctx, route, request, ids, body) }
	if route.ask != nil {
		request.Ask = func() error { return route.ask(ctx, request) }
	}
	return request, nil
}

// checkNew validates a request whose key has no row. An id in the path that no
// ride can have is not found. Postgres could not store it.
func (s *Service) checkNew(ctx context.Context, route keyedRoute, request *phases.Request, ids []web.PathID, body []byte) error {
	var ride string
	for _, id := range ids {
		if !isText(id.Value) {
			return web.NewProblemError(web.CodeNotFound, nil)
		}
		ride = id.Value
	}
	if refusal := route.check(ctx, request, body); refusal != nil {
		return s.refuseNew(ctx, request, ride, refusal)
	}
	return nil
}

// accept answers 202: the request goes on by itself (RFC 7240, section 4.1).
func (k keyedRoute) accept(w http.ResponseWriter, r *web.Request, key phases.Key) error {
	ride, err := k.pending(r.Context(), key)
	if err != nil {
		return err
	}
	w.Header().Set("Location", ridePath(ride.ID))
	return web.AnswerJSON(w, r, http.StatusAccepted, ride)
}

// flowParams returns the parameters as the phases find them in their key: the
// members of the body, and the ids in the path under their names in the route's
// pattern. An id takes precedence over a member of the same name; check should
// refuse such a member as unknown.
func flowParams(body []byte, ids []web.PathID) (string, error) {
	if len(ids) == 0 {
		return string(body), nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return "", fmt.Errorf("decoding the body of a keyed request: %w", err)
	}
	for _, id := range ids {
		value, err := web.EncodeJSON(id.Value)
		if err != nil {
			return "", err
		}
		members[id.Name] = value
	}
	merged, err := web.EncodeJSON(members)
	if err != nil {
		return "", err
	}
	params, err := web.Canonical(merged)
	return string(params), err
}
