package crash

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/rocketrides/rocketrides/internal/accounts"
)

// A flow is what the harness must know of a kind of request. A new flow is a
// new element of flows.
type flow struct {
	name string
	// points are its recovery points, in order.
	points []string
	// called is the point that its foreign call reaches.
	called string
	// path and body are those of the request. others is a body with other
	// parameters.
	path, body, others string
	// done is the status of a success.
	done    int
	scripts []script
}

// idempotencyKey is the key of every request. Each trial has its own account.
const idempotencyKey = "crash"

const (
	fromUnionSquare = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":`
	toOakland       = fromUnionSquare + `{"lat":37.8044,"lon":-122.2712}}`
	toBerkeley      = fromUnionSquare + `{"lat":37.8715,"lon":-122.2730}}`
)

var flows = []flow{{
	name:    "hail",
	points:  []string{"started", "ride_created", "charge_created", "finished"},
	called:  "charge_created",
	path:    "/v1/rides",
	body:    toOakland,
	others:  toBerkeley,
	done:    http.StatusCreated,
	scripts: chargeScripts,
}}

func flowNamed(name string) (flow, bool) {
	i := slices.IndexFunc(flows, func(f flow) bool { return f.name == name })
	if i < 0 {
		return flow{}, false
	}
	return flows[i], true
}

func (f flow) script(name string) (script, bool) {
	i := slices.IndexFunc(f.scripts, func(s script) bool { return s.name == name })
	if i < 0 {
		return script{}, false
	}
	return f.scripts[i], true
}

// request returns a client's request with a body.
func (f flow) request(ctx context.Context, account accounts.Credentials, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, f.path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", idempotencyKey)
	r.Header.Set("Authorization", "Bearer "+account.APIKey.Reveal())
	return r
}
