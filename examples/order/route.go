package order

import (
	_ "embed" // for Schema
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// Schema makes the tables of the flow.
//
//go:embed schema.sql
var Schema string

// Handler returns the route POST /v1/orders. The order of its checks is that of
// every keyed route: a refused request never consumes a key.
func Handler(engine *phases.Engine, flow phases.Flow, who *accounts.Authenticator, logger *slog.Logger) http.Handler {
	router := web.NewRouter(logger, nil)
	router.Post("/v1/orders", func(w http.ResponseWriter, r *web.Request, key string, keyErr error) error {
		principal, err := who.Authenticate(r.Context(), r.Header)
		switch {
		case errors.Is(err, accounts.ErrUnauthenticated):
			return web.NewProblemError(web.CodeUnauthenticated, err)
		case err != nil:
			return err
		}
		body, err := web.ReadJSON(w, r)
		if err != nil {
			return err
		}
		if keyErr != nil {
			return keyErr
		}
		hash := r.Hash(body)
		result, err := engine.Run(r.Context(), flow, phases.Request{
			Account: principal.AccountID, Key: key, RequestID: r.ID, Method: r.Method, Path: r.URL.Path,
			Params: string(body), CanonVersion: web.CanonVersion,
			Hash:  func(version int) ([]byte, bool) { return hash[:], version == web.CanonVersion },
			Check: func() error { return check(body) },
		})
		if err != nil {
			return err
		}
		web.AnswerResult(w, r, result)
		return nil
	})
	return router
}

// check validates the parameters of a request whose key is new.
func check(body []byte) error {
	var params Params
	if err := json.Unmarshal(body, &params); err != nil || params.Item == "" || params.Quantity < 1 || params.Quantity > 100 {
		return web.InvalidParameters([]web.ParamFault{{Pointer: "/quantity", Detail: "Name an item, and a quantity from 1 to 100."}})
	}
	return nil
}
