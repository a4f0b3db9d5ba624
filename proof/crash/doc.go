// Package crash proves that a request is carried out exactly once whatever
// breaks, by breaking everything that can break. It has only tests.
//
// A trial is one run of a whole request: the real HTTP handler, a real
// Postgres, the real Stripe client and a stateful fake Stripe, with faults at
// chosen messages between them. Nobody lists the messages by hand. A run
// without faults is recorded, and then each of its messages is cut, held and
// torn in every way that package wire knows. What a torn message leaves in
// Postgres does not depend on Stripe, so only one or two scripts tear messages to
// Postgres, and all scripts tear messages to Stripe. After each trial the
// invariants of internal/phases are checked with SQL, with the log that the
// triggers of package tripwire write, and with the ledger of the fake Stripe.
//
// The second of two faults is a cut at any message after the first one. If the
// first fault holds a worker, the worker that takes over may be held as well.
//
// What is enumerated is a flow of the service. The flow refund_late begins with
// an event of Stripe's, which tells that a declined ride was paid after all. So
// its trials also break everything about an event: how it is received, stored,
// worked, and given back for. There, the client is Stripe, which sends its
// event again, and every recovery needs a completer. The flow order is that of
// examples/order: it calls two systems, one of them twice.
//
// A new flow is a new element of flows (flow_test.go): how its service is made,
// its request, scripts and checks. Most checks are those of other flows.
// order_test.go shows all of it.
//
// Each trial begins with processes that have no connection, no prepared
// statement, and no memory of an earlier trial. So a trial in which one worker
// runs at a time always takes the same course, and its name is enough to repeat
// it. If several workers run at once, the order in which they come may differ:
//
//	go test ./proof/crash -run TestEveryFault -count=1 -v -args -case 'hail/fused/happy/completer/pg.3.cut-after'
//
// The parts of a name are
//
//   - the flow,
//   - the mode: fused or stepwise,
//   - the script that Stripe follows,
//   - who recovers after the fault: the client with a retry at the same process
//     (retry) or at another one (other), the completer, or both at once,
//   - the faults: each is a wire (pg or st), the number of the message on it,
//     counted over all processes, and the kind. The opening of a connection is a
//     message, too.
//
// No trial waits for time to pass. SQL changes the times of leases, back-offs
// and the window, and the clock of the fake Stripe is advanced. A held worker
// is woken when other workers have finished the request. It must then change
// nothing.
//
// The trials have a limit: a worker that is held looks at its own clock when it
// wakes, and by that clock only moments have passed. So no worker is held in
// scripts in which the window of a charge closes, and a person resolves a
// parked key only when no worker is held.
//
// With -full the enumeration is complete. It fails if a fault never struck:
// every fault must strike if one worker runs at a time, and 95 % of them if
// several do. Without -full it runs a sample, which -seed chooses.
package crash
