// Package phases takes requests through atomic phases with recovery points, so
// that whatever breaks, each request is carried out exactly once.
//
// # The promise
//
// A request is named by an idempotency key within an account. A Flow says, as a
// list, what the request does. Some of it is local: writes to Postgres, all or
// nothing. Some of it is foreign: a write in somebody else's system, such as a
// charge, which no transaction of ours can roll back. The engine runs local
// phases in transactions and foreign calls between them, and stores after each
// transaction how far the request has come: its recovery point. Whoever resumes
// it, a client's retry or the completer, goes on from there, through the same
// loop (attempt.run).
//
// The package knows Postgres. It knows no HTTP, no Stripe and nothing of what
// flows are about.
//
// # The states of a key
//
//	         insert, with the first transaction
//	(none) ───────────────────────────────────────▶ ┌──────────────────────────────┐
//	                                                 │ leased                       │
//	              steal: epoch+1, new token          │ started ▶ point ▶ … ▶ point  │──┐
//	┌──────────┐ ──────────────────────────────────▶ │    (each ▶ is one fenced     │  │ fenced: the token
//	│ released │                                     │     transaction)             │  │ is another's; the
//	│ (due at  │ ◀────────────────────────────────── └──────────────────────────────┘  │ loser writes nothing
//	│ run_after)│  release: epoch+1, no token          │              │                │ and answers from
//	└──────────┘  (failure, Wait, shutdown)             │ Park         │ Finish         │ the row
//	     ▲                                              ▼              ▼                ▼
//	     │ retry: epoch+1                         ┌─────────┐    ┌──────────┐
//	     └─────────────────────────────────────── │ parked  │    │ finished │
//	                                              │ (reason)│──▶ │ (answer) │ ── reap ──▶ tombstone ──▶ (none)
//	                                              └─────────┘    └──────────┘   retention         30 days
//	                                                 resolve
//
// A leased key whose lease has ended is as free as a released one. A tombstone
// answers ErrKeyExpired; when it is gone, the flow's own unique constraint
// (Tx.QueueOnce) does.
//
// # One attempt
//
//	RT1  SELECT the row            finished? replay it. Nothing is written.
//	RT2  BEGIN; insert the key at the point that the local phases reach, with the frozen form of
//	     the foreign call and its first_sent_at; the phases' statements; COMMIT
//	     …the foreign call: no transaction open, no connection held…
//	RT3  BEGIN; the fence, with the answer; the phases' statements; COMMIT
//
// Each of RT2 and RT3 is one pipeline. That is a key's first attempt, fused:
// points are names for what is durable, not a duty to commit at each. Every
// later attempt, and every attempt under Config.Stepwise, is stepwise: one
// phase a transaction. There is no fallback from one to the other inside an
// attempt.
//
// # The fence
//
// Every transaction of a held key begins with one UPDATE of its row that names
// the token of the claim and the point that the worker left, and excludes
// finished and parked rows. It is fence, renewal of the lease and move in one.
// Where it matches no row, the server itself aborts the transaction by a
// division by zero, so that no client has to look before it commits.
//
// The end of a lease is a right to steal, and never a safety argument: a worker
// that slept past its lease may go on, and is harmless, because the fence shuts
// it out as soon as somebody else has claimed the key. Only the database's
// clock counts.
//
// A fence cannot recall a foreign call in flight. What protects that one:
//
//   - One foreign key per call, for ever (ForeignKey): a pure function of flow,
//     point, account and client key. The other side replays its first answer.
//   - One form, for ever: frozen in the transaction before the first send.
//   - No send after Config.Window (20 hours) from first_sent_at, which is durable
//     before the first send: the other side may forget keys after 24. From then
//     on the call is looked up (Call.Find) and adopted, or the key is parked.
//
// # Invariants
//
// This is the one list of what must hold. Tests, the model, crash, chaos and
// audit cite these numbers.
//
//	I1  Per account and key the card is charged at most once: at most one charge
//	    has succeeded and was not refunded.
//	I2  A success (2xx) means one ride, one ride.created record, one charge and
//	    one receipt. Their ids, amount, currency and customer equal Stripe's.
//	I3  A 402 means that no money was taken, then or later.
//	I4  Money that was taken is on its ride, or on a key that is unfinished or
//	    parked.
//	I5  Nothing is sent before its ride, its form and the time of its first send
//	    are committed.
//	I6  All sends of a call have one foreign key, one account and the same bytes.
//	    None is made after the window.
//	I7  A key's recovery points follow its flow's list, and its lease epoch never
//	    falls. A transaction commits only while its claim is current, and only
//	    from the point that it started from.
//	I8  A finished row never changes, except when it is reaped.
//	I9  Once a key has its answer, every later answer equals it in status, bytes
//	    and stored headers, until the key is reaped.
//	I10 A request with other parameters under a used key is not run, and changes
//	    nothing.
//	I11 Accounts never see or change each other's keys and rides. The same key
//	    at another endpoint or with another method is refused and changes
//	    nothing.
//	I12 In any snapshot a ride has its record and a record its ride, a key past
//	    its charge has a charged ride, a success has its receipt, and a parked
//	    key has a reason and a record.
//	I13 What was acknowledged is there after any crash.
//	I14 POST and GET of one key are linearizable.
//	I15 A failure (an invalid request, 401, 409 in use, 429, any 5xx) is never
//	    stored as an answer, and a refused request leaves no key.
//	I16 When faults stop and the other side gives definite answers, every key is
//	    finished or parked within lease + poll + the longest back-off.
//	I17 A key is parked only for a reason that a fault explains. Neither a
//	    client's retries nor trouble that passes by itself park a key.
//	I18 A key that always fails delays no healthy key by more than one slot.
//	I19 A staged job is delivered at least once. It is delivered twice only after
//	    a crash between sending and acknowledging.
//	I20 A job, an e-mail or a callback exists only if its transaction committed.
//	I21 An event of Stripe's has at most one effect. Events in any order, with
//	    any duplicates, end in the same state.
//	I22 Only finished keys older than the retention are reaped, and a reaped key
//	    is never run a second time.
//	I23 No transaction is open and no connection is held during a foreign call.
//	I24 Only the database's clock decides about leases, windows and ages.
//	I25 A callback never connects to a non-public address, never exceeds its
//	    size and follows no redirect.
//	I26 A process works only on keys of flow versions and realms that it knows.
//	I27 At rest these are equal to the cent: the charges in Stripe's ledger, the
//	    charges on rides, and the fares of charged rides.
//
// I19, I21 and I25 have no code yet, and of I20 there is only the staging:
// jobs, e-mails, callbacks and Stripe's events are still to come. The others
// are shown by
//
//	tests  I1 to I12, I15 to I18, I22 to I24, I26
//	model  I1 to I9, I16, I22                        (proof/model)
//	crash  I1 to I13, I15 to I17, I20, I22, I23, I27 (proof/crash)
//	chaos  I1 to I10, I12 to I14, I16, I17, I26, I27 (proof/chaos)
//	audit  I1 to I4, I6, I12, I16, I22, I26, I27     (completer audit)
//
// # What each crash leaves behind
//
//	died …                          what is durable               who goes on, and how
//	before RT2's COMMIT             nothing                       a retry is a fresh request
//	after it, before the send       point, form, first_sent_at    a retry or the completer, once the lease ended: sends
//	during or after the send        the same                      the same: sends again, and gets the first answer back
//	after the answer, before RT3    the same                      the same
//	after RT3's COMMIT              everything                    a retry is a replay
//	in the completer, anywhere      the last point reached        another completer, or a retry
//
// # When COMMIT isn't answered
//
// An abort is proved by one thing only: a server ERROR for a statement before
// COMMIT. Otherwise the row is read again. If it shows the transaction, all of
// it is believed. If it doesn't, that is no proof (measured: absent at once,
// there 1.5 s later), so the same transaction runs again under the same token,
// and whichever run comes second meets the fence, or the primary key. After
// such a doubt a barrier is written, an audit record of its own, and its
// acknowledgement awaited, before the next foreign call or an answer: a primary
// that waits for a synchronous standby can show what isn't durable yet. The
// same goes for a COMMIT that succeeded with a warning that the standby did not
// confirm.
//
// # Decisions, and why
//
// READ COMMITTED, everywhere. Safety rests on the primary key and on a row
// compare-and-swap, which READ COMMITTED carries. SERIALIZABLE on small hot
// tables refuses unrelated requests: measured on two cores at eight clients, 90
// % of the transactions of the four-phase form failed with 40001; here none.
//
// Tokens and points, both. The token alone would let a worker repeat a
// transaction of its own that had committed unseen; the point alone would let a
// worker whose lease was taken move a key that has not moved yet.
//
// A look-up first, then a guarded insert. Insert-or-select in one statement
// returns no row in a race, and writes to replay; this way a replay writes
// nothing.
//
// BEGIN and COMMIT are queued with the statements, instead of pgx's own, which
// cost a round trip each. They are never left out: without them a pipelined
// batch is atomic on plain Postgres but not on Citus.
//
// Three classes of foreign errors (Class). The original stored "the processor
// failed" as an answer; that is how a captured charge becomes a failed request.
// A flow's author must say which of its errors prove that nothing was done;
// whatever isn't said is Unknown.
//
// "Nothing found" never leads to a send. The other side may still roll an
// uncertain call forward; absence is no proof. So Find adopts, looks again, or
// parks.
//
// Failures are counted when the completer finds them and they would repeat with
// the same input. So neither an impatient client nor a long outage parks a key.
// The claim counts an attempt in a commit of its own, so that a person sees
// also those attempts that took their process down.
//
// A worker tells the phases behind it what it has just written (Know, Known),
// so that the fused form reads nothing. Results are not serialised into the
// key: rows hold the truth, and a resumed attempt reads them.
//
// The realm (test or live) is part of the row, so that a completer that is
// started with the other mode's credentials finishes nobody's keys in the wrong
// world.
//
// Polling, no LISTEN; no FOR UPDATE; no session locks; no triggers. So plain
// Postgres, Postgres behind a transaction pooler, and Citus run the same code.
// For Citus's sake RETURNING never calls now(): the clock is read off a time
// that the statement has just set.
//
// # Risks that remain
//
// A process that is paused for more than four hours between the look at the
// window and the write to the socket, and then still has its connection, may
// send after the other side forgot. A key that is used again after its
// tombstone went is refused only where the flow inserts something unique per
// key. A primary that fails over to an asynchronous standby can lose an answer
// that was given; the charge is not repeated when the client retries while the
// other side remembers the foreign key (24 hours), since key and bytes are pure
// functions of the request. A replay reads what the primary shows: after a
// fail-over from a synchronous primary that had not waited, it can show what
// was never durable.
package phases
