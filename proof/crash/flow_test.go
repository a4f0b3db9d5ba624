package crash

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// A flow is what the harness must know of a kind of request. A new flow is a
// new element of flows.
type flow struct {
	name string
	// points are its recovery points, in order.
	points []string
	// called is the point that its foreign call reaches, and sent the path at
	// Stripe that the call is sent to.
	called, sent string
	// path and body are those of the request. others is a body with other
	// parameters.
	path         func(r *run) string
	body, others string
	// done is the status of a success, and refused that of the other answer that
	// is stored.
	done, refused int
	// event is set if the request is an event of Stripe's. Then completers work
	// it, and only they.
	event bool
	// stranger is the code with which another account is refused.
	stranger string
	// prepare does what must have happened before the request; nil: nothing.
	prepare func(ctx context.Context, r *run) error
	// resolve ends a parked key as a person would.
	resolve func(ctx context.Context, resolver rides.Resolver, parked phases.Record) error
	scripts []script
	// checks are those of the invariants, in the order in which they are
	// printed.
	checks []check
}

// idempotencyKey is the key of every request of a client. Each trial has its own
// account.
const idempotencyKey = "crash"

const (
	fromUnionSquare = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":`
	toOakland       = fromUnionSquare + `{"lat":37.8044,"lon":-122.2712}}`
	toBerkeley      = fromUnionSquare + `{"lat":37.8715,"lon":-122.2730}}`
)

var flows = []flow{
	{
		name:    "hail",
		points:  []string{"started", "ride_created", "charge_created", "finished"},
		called:  "charge_created",
		sent:    "/v1/payment_intents",
		path:    func(*run) string { return "/v1/rides" },
		body:    toOakland,
		others:  toBerkeley,
		done:    http.StatusCreated,
		refused: http.StatusPaymentRequired,

		stranger: "invalid_parameters",
		resolve:  resolveHail,
		scripts:  chargeScripts,
		checks:   hailChecks,
	},
	{
		name:    "cancel",
		points:  []string{"started", "refund_created", "finished"},
		called:  "refund_created",
		sent:    "/v1/refunds",
		path:    func(r *run) string { return "/v1/rides/" + r.ride + "/cancel" },
		body:    "",
		others:  `{"other":true}`,
		done:    http.StatusOK,
		refused: http.StatusConflict,

		stranger: "not_found",
		prepare:  hailBefore,
		resolve:  resolveCancel,
		scripts:  refundScripts,
		checks:   cancelChecks,
	},
	{
		name:    "refund_late",
		points:  []string{"started", "refund_created", "finished"},
		called:  "refund_created",
		sent:    "/v1/refunds",
		path:    func(*run) string { return "/v1/stripe/events" },
		done:    http.StatusOK,
		refused: http.StatusConflict,

		event:   true,
		prepare: payLate,
		resolve: resolveCancel,
		scripts: lateScripts,
		checks:  lateChecks,
	},
}

// allPoints are the recovery points of all flows, each flow's in their order.
var allPoints = []string{"started", "ride_created", "charge_created", "refund_created", "finished"}

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

// post returns a client's request.
func post(ctx context.Context, path, key string, account accounts.Credentials, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Idempotency-Key", key)
	r.Header.Set("Authorization", "Bearer "+account.APIKey.Reveal())
	return r
}
