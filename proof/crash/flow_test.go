package crash

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// A flow is what the harness must know of a kind of request. A new flow is a
// new element of flows.
type flow struct {
	name string
	// service returns what the processes of a trial run, and schema makes the
	// tables that no migration makes.
	service func(p *process, stripe *payments.Stripe) service
	schema  string
	// points are its recovery points, in order. A lane takes them from the
	// service.
	points []string
	// called is the point that its call to Stripe reaches, and sent the path at
	// Stripe that the call is sent to. If it calls Stripe twice, they are those
	// of the call that the scripts are about.
	called, sent string
	// stored is the condition, in SQL, that what it stores before it sends
	// anything is there for the key k. It is asked whenever something arrives
	// at Stripe, or beside it. That may be a worker that was held until the key
	// was declined, and what it had stored was given back.
	stored string
	// beside returns another system that it calls, at paths under /beside/; nil:
	// there is none.
	beside func() http.Handler
	// path and body are those of the request. others is a valid body with other
	// parameters, which must be refused under the same key.
	path         func(r *run) string
	body, others string
	// done is the status of a success, and refused are those of the other
	// answers that are stored. A 409 is stored if its code is conflict and it
	// has no Retry-After.
	done     int
	refused  []int
	conflict string
	// event is set if the request is an event of Stripe's. Then completers work
	// it, and only they.
	event bool
	// long is set if it sends so many messages that of all pairs of faults only
	// a sample is run.
	long bool
	// stranger is the code with which another account's request with the body
	// {} is refused.
	stranger string
	// prepare does what must have happened before the request, in every trial
	// and before the script's before; nil: nothing.
	prepare func(ctx context.Context, r *run) error
	// resolve ends a parked key as a person would: it looks at Stripe, and
	// says what it finds there.
	resolve func(ctx context.Context, r *run, parked phases.Record) error
	// look queues the queries about its own tables, whose rows go into s.own;
	// nil: there are none.
	look func(s *snapshot, batch *pgx.Batch, account string)
	// scripts are how the other side behaves. Those of a flow that charges once
	// can be chargeScripts.
	scripts []script
	// checks are those of the invariants, in the order in which they are
	// printed.
	checks []check
}

// final reports whether every later reply must equal this one.
func (f flow) final(r reply) bool {
	return r.status == http.StatusCreated || r.status == http.StatusOK || r.status == http.StatusPaymentRequired ||
		f.conflict != "" && r.code == f.conflict && !r.passes
}

// A service is what the processes of a flow run.
type service struct {
	flows   []phases.Flow
	handler func(*phases.Engine) http.Handler
}

// ridesService is the service of Rocket Rides.
func ridesService(p *process, stripe *payments.Stripe) service {
	return service{flows: rides.Flows(stripe, accounts.Store{Pool: p.pool}), handler: func(engine *phases.Engine) http.Handler {
		return rides.NewService(rides.Config{
			Pool: p.pool, Engine: engine, Stripe: stripe, MaxFare: 50_000, Logger: slog.New(slog.DiscardHandler),
			EventSecrets: []string{eventSecret},
		}).Handler()
	}}
}

// A cancel has claimed its ride, and keeps it unless it was refused; a worker
// that was held until then may still send, and Stripe repeats its answer.
const (
	hasRide   = `EXISTS (SELECT FROM rides r WHERE r.account_id = k.account_id AND r.key = k.key)`
	hasCancel = `EXISTS (SELECT FROM rides r WHERE r.account_id = k.account_id AND r.cancel_key = k.key) OR k.response_status = 409`
	hasLate   = `EXISTS (SELECT FROM rides r WHERE r.account_id = k.account_id AND r.status = 'declined') OR k.response_status = 409`
)

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
		service: ridesService,
		stored:  hasRide,
		called:  "charge_created",
		sent:    "/v1/payment_intents",
		path:    func(*run) string { return "/v1/rides" },
		body:    toOakland,
		others:  toBerkeley,
		done:    http.StatusCreated,
		refused: []int{http.StatusPaymentRequired},

		stranger: "invalid_parameters",
		resolve:  resolveCharge,
		scripts:  chargeScripts,
		checks:   hailChecks,
	},
	{
		name:    "cancel",
		service: ridesService,
		stored:  hasCancel,
		called:  "refund_created",
		sent:    "/v1/refunds",
		path:    func(r *run) string { return "/v1/rides/" + r.ride + "/cancel" },
		body:    "",
		others:  `{"other":true}`,
		done:    http.StatusOK,
		refused: []int{http.StatusConflict},

		conflict: "ride_not_cancelable",
		stranger: "not_found",
		prepare:  hailBefore,
		resolve:  resolveCancel,
		scripts:  refundScripts,
		checks:   cancelChecks,
	},
	{
		name:    "refund_late",
		service: ridesService,
		stored:  hasLate,
		called:  "refund_created",
		sent:    "/v1/refunds",
		path:    func(*run) string { return "/v1/stripe/events" },
		done:    http.StatusOK,
		refused: []int{http.StatusConflict},

		event:   true,
		long:    true,
		prepare: payLate,
		resolve: resolveCancel,
		scripts: lateScripts,
		checks:  lateChecks,
	},
	orders,
}

func flowNamed(name string) (flow, bool) {
	i := slices.IndexFunc(flows, func(f flow) bool { return f.name == name })
	if i < 0 {
		return flow{}, false
	}
	return flows[i], true
}

// past reports whether a key at a point needs the call no more that is sent
// under a foreign key.
func (f flow) past(point, account, key, foreignKey string) bool {
	reaches := slices.IndexFunc(f.points, func(p string) bool { return phases.ForeignKey(f.name, p, account, key) == foreignKey })
	return reaches >= 0 && slices.Index(f.points, point) >= reaches
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
