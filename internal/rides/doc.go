// Package rides is the service: what a ride is, what hailing and canceling one
// does, and how clients ask for it over HTTP.
//
// What a route does is a flow, a list of phases; package phases carries it out
// exactly once. Each keyed route (one that needs an Idempotency-Key) is a flow,
// a check of its parameters, and a line in the router.
//
//   - ride.go: the ride as clients see it, as the database holds it, and as it
//     follows from its key
//   - fare.go: what a ride costs
//   - params.go: what a client must send to hail one
//   - hail.go: the flow of POST /v1/rides
//   - cancel.go: the flow of POST /v1/rides/{id}/cancel
//   - cancel_check.go: what is asked before a ride is claimed for its cancel
//   - announce.go: the receipt and the callback that a flow stages at its end
//   - refund_late.go: the flow that gives back what was taken for a declined
//     ride
//   - service.go: the service, its routes, and authentication
//   - keyed.go: the handler of every keyed route
//   - earlier_life.go: what refuses keys whose rows are gone
//   - limits.go: how many requests each account may send
//   - wait.go, stream.go: waiting for an answer or a ride, and following a ride
//   - watcher.go: the one poll that serves all who wait, and metrics.go: what
//     operators see of them
//   - read.go: the handlers of GET
//   - reference.go: the contract for machines and for people
//   - resolve.go: how a person ends a parked key of a hail, and
//     resolve_refund.go: of a refund
//   - events.go: how Stripe's events are received
//   - event_inbox.go: where they wait until they are worked
//   - event_worker.go: who works them, for the completer, and event_crew.go: how
//     many at once
//   - event_effects.go, event_refunds.go: what they change
//   - audit_record.go: what they tell people
//   - event_sweep.go: what makes up for those that never came
//   - event_closer.go: what keeps a declined payment from succeeding later
//   - event_metrics.go: what operators see of all that
package rides
