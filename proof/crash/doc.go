// Package crash proves that a request is carried out exactly once whatever
// breaks, by breaking everything there is to break. It has tests only.
//
// A trial is one run of a whole request: the real HTTP handler, a real
// Postgres, the real Stripe client and a stateful fake Stripe, with faults at
// chosen messages between them. Nobody names the messages. A run without faults
// is recorded, and every message in it is then cut, held and torn apart in
// every way that package wire knows. What a torn message leaves in Postgres
// doesn't depend on Stripe, so two scripts tear those, and all tear Stripe's.
// After each trial every invariant of the table is checked with SQL, with the
// log that triggers keep, and with the fake's ledger.
//
// The second of two faults is a cut at any message that came after the first,
// which is a cut, or a worker asleep: then the one that takes its place may
// fall asleep, too.
//
// All processes of a trial begin cold, with no connection and nothing prepared,
// so that a trial in which one goes on at a time has one course of events, and
// its name repeats it. Where several go on at once, who comes first may differ:
//
//	go test ./proof/crash -run TestEveryFault -count=1 -v -args -case 'hail/fused/happy/completer/pg.3.cut-after'
//
// The parts of a name are the flow; the mode (fused or stepwise); the script
// that Stripe follows; who goes on after the fault (the client by a retry, at
// the same process or at another, the completer, or both at once); and the
// faults, each the wire, the number of the message on it, over all processes,
// and the kind. A connection that is opened is a message of its own.
//
// Time is not waited for: leases, back-offs and the window are aged by SQL, and
// Stripe's clock is moved. A held message is let go when others have brought
// the request to its rest, and the one that wakes then must change nothing.
//
// What a trial cannot show: a worker that is held looks at its own clock when
// it wakes, and only moments have passed there. So nobody is held where a trial
// lets the window of a charge close, and a person decides about a parked
// request only when nobody is asleep any more.
//
// With -full the enumeration is complete, and fails if a fault never struck:
// all of them must where one goes on at a time, and 95 of a hundred where
// several do. Without it, a sample is drawn by -seed.
package crash
