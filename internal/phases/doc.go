// Package phases takes requests through atomic phases with recovery points, so
// that each request is carried out exactly once, whatever breaks.
//
// # The promise
//
// An idempotency key identifies a request within an account. A Flow is the list
// of what the request does. Some of it is local: writes to Postgres, all or
// nothing. Some of it is foreign: a write in somebody else's system, such as a
// charge, which no transaction of ours can roll back. The engine runs local
// phases in transactions, and foreign calls between transactions. Each
// transaction stores how far the request has come: its recovery point. A
// client's retry and the completer both go on from there, through the same loop
// (attempt.run).
//
// The package knows Postgres. It knows no HTTP, no Stripe, and nothing of what
// flows are about.
//
// # The states of a key
//
//	         insert, in the first transaction
//	(none) ─────────────────────────────────────▶ ┌──────────────────────────────┐
//	                                              │ leased                       │
//	             claim: epoch+1, new token        │ started ▶ point ▶ … ▶ point  │
//	┌────────────┐ ─────────────────────────────▶ │    (each ▶ is one fenced     │
//	│ released   │                                │     transaction)             │
//	│ (due at    │ ◀───────────────────────────── └──────────────────────────────┘
//	│ run_after) │  release: epoch+1, no token         │ Park          │ Finish
//	└────────────┘  (failure, Wait, shutdown)          ▼               ▼
//	     ▲                                        ┌──────────┐    ┌──────────┐
//	     │ retry: epoch+1                         │ parked   │    │ finished │
//	     └─────────────────────────────────────── │ (reason) │──▶ │ (answer) │ ── reap ──▶ tombstone ──▶ (none)
//	                                              └──────────┘    └──────────┘   retention         30 days
//	                                                   resolve: epoch+1
//
// A leased key whose lease has run out may be claimed like a released one. An
// unfinished key that nobody holds is called abandoned. A tombstone is the
// emptied row of a reaped key; it answers ErrKeyExpired. When it is gone, the
// flow's own unique constraint does (Tx.QueueOnce).
//
// # One attempt
//
//	RT1  SELECT the row            If the key is finished, its answer is replayed, and nothing is written.
//	RT2  BEGIN; INSERT the key at the point that the local phases reach, with the frozen form of
//	     the foreign call, its first_sent_at and its calling_until; the phases' statements; COMMIT
//	     …the foreign call: no transaction is open, no connection is held…
//	RT3  BEGIN; the fence, with the answer; the phases' statements; COMMIT
//
// RT2 and RT3 are one pipeline each. This is a key's first attempt, and it is
// fused: phases that no foreign call separates share a transaction, which
// stores the last point that they reach. Every later attempt, by a client or by
// the completer, and every attempt under Config.Stepwise, is stepwise: each
// phase has a transaction of its own. An attempt never changes from one to the
// other. Engine.Resolve is not an attempt at the flow: a person's decision and
// the phases behind it, up to the next foreign call, are one transaction.
//
// # Transactions that share a COMMIT
//
// What costs most about so small a transaction is its end: the sync of the log,
// and the round trip. So while a transaction of a process is on its way, those
// that become ready wait for it to arrive, and then go together, up to 32 in
// one BEGIN … COMMIT (gather.go). Eight that wait go beside it, so that the
// disk and the processor both have work. Alone, a transaction goes at once.
// Only transactions that are wholly queued are gathered, so none that reads.
//
// Each keeps its guard. The guards come first, in the order of account and key,
// so that they can't deadlock, and no lock is waited for longer than 100 ms. If
// a statement fails, the server rolls all of them back, and each runs again by
// itself. If nobody knows whether they committed, each is in doubt, and settles
// its doubt alone. A transaction is gathered once at most, so it suffers once
// at most from a stranger's fault. A group that takes longer than 100 ms may
// hang at a lock, and the others wait for it no longer.
//
// The look-ups of RT1 are gathered by the same rule, in a pipeline without a
// transaction: alone at once; beside a group on its way only if eight wait;
// without one that takes longer than 100 ms. If one of them fails, or all hang,
// each is made by itself. They belong to no request, so no client that goes away
// takes the answer from others.
//
// # When more come than the database can serve
//
// What has begun goes first. Look-ups and claims use half of the connections at
// most, and of the transactions that wait for company those go first that hold
// their key.
// A new request is refused at the door (door.go), before its key is looked up,
// if those before it take so long that it would have to wait for more than a
// second. So those inside are as many as the database can serve, however many
// come, and the others are refused at once.
//
// # The fence
//
// Every transaction of a held key begins with one UPDATE of its row. Its WHERE
// names the token of the claim and the point from which the transaction starts,
// and excludes finished and parked rows. The same UPDATE renews the lease and
// moves the key. If it matches no row, the server itself aborts the transaction
// by a division by zero, so the client needs no round trip to check.
//
// The end of a lease allows others to claim the key; no safety rests on it. A
// worker that slept past its lease may go on, and does no harm, because the
// fence shuts it out as soon as another worker has claimed the key. Only the
// database's clock counts.
//
// # Leases
//
// A lease is short, so that the keys of a process that died are soon taken
// over: after a lease and a poll of the completer. A foreign call may last
// longer, and then its lease is renewed (renewal.go). One timer looks after all
// calls of a process, so a call that ends before half of its lease is gone
// costs nothing. Leases that are half over are renewed together, by one
// statement. It compares tokens and points, as the fence does, so it never
// prolongs another worker's claim, and it skips locked rows. A call whose lease
// runs out all the same is given up: its context is canceled, and its result is
// Unknown.
//
// A lease that is renewed says little about the past, so two more columns do.
// claimed_at is when the worker claimed the key; the waits of refused clients
// grow with its age. calling_until is until when a send that has begun may be
// under way. It is committed before the send: with the intent, with the claim,
// or by a transaction of its own if most of the lease is gone by then. It lies
// a lease and a call's time-out ahead, and no lease, renewal or claim by
// another brings it forward. Until then nobody decides that nothing was done
// (Resolve, Unpark). A worker whose call has ended puts back what it found at
// its claim, so the calls of those who had the key before it are still waited
// for.
//
// Nobody waits for a look-up, which may read long lists and so has a time-out of
// its own, of minutes. It sends nothing, no send of its call follows it, and
// what it finds after a decision meets the fence.
//
// So two workers may send under one foreign key at once: one that lost its
// lease, and the one that claimed the key then. Both send the same bytes, and
// the other side does it once. If it refuses one of them while the other is
// under way, that one tries again later, and it doesn't count.
//
// A worker of the release before this one renews nothing and doesn't know
// calling_until. Its calls end within its lease, for which Resolve and Unpark
// wait too; and a worker of this release ends its calls with its lease, which
// is what the older one waits for. So the two work beside each other.
//
// Nonsense is only a lease below MinLease, which no renewal could keep. A lease
// may be shorter than a call, a transaction or a lock time-out: a worker that
// is slow then loses its key to another one, and nothing else.
//
// # The foreign call
//
// The fence cannot recall a foreign call that is on its way. Three rules
// protect that:
//
//   - A call has one foreign key, for ever (ForeignKey): a pure function of flow,
//     point, account and client key. The other side replays its first answer.
//   - A call has one form, for ever. It is frozen in the transaction before the
//     first send.
//   - Nothing is sent after Config.Window (20 hours) from first_sent_at, which is
//     durable before the first send, because the other side may forget keys
//     after 24 hours. From then on the call is looked up (Call.Find). What is
//     found is adopted; otherwise the key is parked.
//
// # Invariants
//
// These must hold. Tests, the model, crash, chaos and audit cite the numbers.
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
//	I14 POST and GET of one key are linearizable, but for the moment in which
//	    an operator parks a key that is being worked on: for Config.Memory after
//	    that a process may still say that it is in use.
//	I15 A failure (an invalid request, 401, 409 in use, 429, any 5xx) is never
//	    stored as an answer, and a refused request leaves no key.
//	I16 When faults stop and the other side gives definite answers, every key is
//	    finished or parked within lease + poll + the longest back-off, or a call's
//	    time-out instead of the lease if that is longer; what is looked up, when
//	    its lists are read as well. A list that takes longer than
//	    Config.FindTimeout needs a person.
//	I17 A key is parked only for a reason that a fault explains. Neither a
//	    client's retries nor trouble that passes by itself park a key.
//	I18 A key that always fails delays no healthy key by more than one slot.
//	I19 A staged job is delivered at least once. It is delivered twice only after
//	    a crash between sending and acknowledging.
//	I20 A job, an e-mail or a callback exists only if its transaction committed.
//	I21 An event of Stripe's has at most one effect, however often and in
//	    whatever shape it comes. Events in any order, with any duplicates, late
//	    or never, end in the same state. None disturbs a live worker.
//	I22 Only finished keys older than the retention are reaped, and keys that
//	    turn out to have been reaped before; a reaped key never runs again.
//	I23 No transaction is open and no connection is held during a foreign call.
//	I24 Only the database's clock decides about leases, windows and ages.
//	I25 A callback never connects to a non-public address, unless the operator
//	    allows that address. It and what is read of its answer never exceed
//	    their sizes, and no redirect is followed.
//	I26 A process works only on keys of flow versions and realms that it knows.
//	I27 At rest these are equal to the cent: the charges in Stripe's ledger, the
//	    charges on rides, and the fares of charged rides.
//
// They are checked by
//
//	tests  I1 to I12, I15 to I26
//	model  I1 to I9, I12, I16, I22                   (proof/model)
//	crash  I1 to I13, I15 to I17, I20 to I23, I27    (proof/crash)
//	chaos  I1 to I10, I12 to I14, I16, I17, I21, I22, I26, I27 (proof/chaos)
//	audit  I1 to I4, I6, I12, I16, I19 to I22, I26, I27 (completer audit)
//
// # What each crash leaves behind
//
//	died …                          what is durable               who goes on, and how
//	before RT2's COMMIT             nothing                       a retry is a new request
//	after it, before the send       point, form, first_sent_at    a retry or the completer, once the lease has ended: sends
//	during or after the send        the same                      the same: sends again, and gets the first answer back
//	after the answer, before RT3    the same                      the same
//	after RT3's COMMIT              everything                    a retry is a replay
//	in the completer, anywhere      the last point reached        another completer, or a retry
//
// # When COMMIT isn't answered
//
// Only one thing proves an abort: a server ERROR for a statement before COMMIT.
// In every other case the row is read again. If it shows the transaction, all
// of it is believed. If it doesn't, that is no proof: a transaction was seen to
// be absent at first and there 1.5 s later. So the same transaction runs again
// under the same token, and the second of the two runs meets the fence, or the
// primary key.
//
// After such a doubt, and before the next foreign call or an answer, the engine
// commits a barrier, which is an audit record of its own, and waits until it is
// acknowledged. Without it, a primary that waits for a synchronous standby
// could show what isn't durable yet. A COMMIT that succeeded with a warning
// that the standby did not confirm it is followed by a barrier too.
//
// # Decisions, and why
//
// READ COMMITTED everywhere. Safety rests on the primary key and on a
// compare-and-swap of one row, for which READ COMMITTED is enough. SERIALIZABLE
// on small hot tables refuses unrelated requests: measured on two cores with
// eight clients, 90 % of the transactions of the four-phase form failed with
// 40001; with READ COMMITTED none did.
//
// The fence compares both token and point. With the token alone, a worker could
// repeat a transaction of its own that had committed unseen. With the point
// alone, a worker that has lost its key could move it as long as it stands
// where the worker left it.
//
// The row is read first, then inserted; if it is there in the meantime, its
// primary key aborts the transaction. Insert-or-select in one statement returns
// no row in a race, and writes even for a replay. This way a replay writes
// nothing.
//
// BEGIN and COMMIT are queued with the statements, because pgx's own cost a
// round trip each. They are never left out: without them a pipelined batch is
// atomic on plain Postgres, but not on Citus.
//
// Foreign errors have three classes (Class). The original Rocket Rides stored
// "the processor failed" as an answer, and so a captured charge could become a
// failed request. Here a flow's author must say which errors prove that nothing
// was done. Every other error is Unknown.
//
// "Nothing found" never leads to a send. The other side may still complete a
// call that was uncertain, so absence is no proof. A look-up leads to an
// adoption, to another look-up, or to parking.
//
// Failures count towards parking only if the completer finds them and they
// would repeat with the same input. So neither an impatient client nor a long
// outage parks a key. The claim counts the attempt in a commit of its own, so
// that people also see those attempts that ended the process.
//
// A phase tells the phases behind it what it has just written (Know, Known), so
// that a fused attempt reads nothing. Results are not serialised into the key:
// the flow's own rows hold the truth, and a later attempt reads them.
//
// The realm (test or live) is part of the row. So a completer that was started
// with the other mode's credentials finishes no key in the wrong mode.
//
// There is polling and no LISTEN, and there are no session locks or triggers,
// and no FOR UPDATE but that of renewals, which on Citus locks rows of one
// account only. So plain Postgres, Postgres behind a transaction pooler, and
// Citus run the same code. Because of Citus, RETURNING never calls now(): the
// clock is taken from a time that the statement has just set.
//
// # Beyond one machine
//
// Processes share nothing except the database, which may be a Citus cluster.
// Every table's primary key begins with the account, and every statement of a
// request names the request's account. When the tables are distributed by
// account, one node executes the request and commits it alone. deploy/citus.sql
// distributes them: accounts by id, the others by account_id beside it. What
// has no account stays on the coordinator. Only the completer's and the
// operators' lists, the relay of jobs and the audit ask every node.
//
// Statements are written for it. Citus evaluates now() on the coordinator
// before a write, and therefore refuses it beside columns, in CASE and in
// RETURNING. It executes an INSERT inside a WITH in two steps, of which the
// node gets one. Each message of a migration is one statement, and each CHECK
// an ALTER TABLE of its own.
//
// Four things are weaker there. SET LOCAL doesn't reach the nodes, so that a
// shared COMMIT waits for a lock as long as any other. The coordinator's clock
// is that of every write and claim, and a node's that of a read: a lease may
// look as if it had ended, but can't be claimed, and the window has four hours
// in reserve. The servers check the settings of the coordinator, so an operator
// must make the nodes as durable. And statements that ask every node see each
// at its own moment.
//
// # Risks that remain
//
// A process may be paused for more than four hours between its look at the
// window and its write to the socket. If it still has its connection then, it
// sends after the other side may have forgotten the foreign key. In the same
// way, a process that is paused there until calling_until is over may send
// after a person has decided that nothing was done. Whoever decides asks the
// other side first, and the audit finds a charge that came later.
//
// A key that is used again after its tombstone was deleted is refused only if
// the flow inserts something unique for the key, or finds what the key did.
//
// A primary that fails over to an asynchronous standby can lose an answer that
// was given. The charge is not repeated if the client retries while the other
// side remembers the foreign key (24 hours), because foreign key and form are
// pure functions of the request.
//
// A replay reads what the primary shows. After a fail-over from a synchronous
// primary that had not waited, that may never have been durable.
//
// Only the database's clock counts, so it must not go back. If it was ahead and
// is set back, a lease and a calling_until of a worker that died last longer by
// that much, a key that was released is due that much later, and a first send
// that was noted meanwhile seems to be younger than it is: its window then
// ends that much later, of which four hours are safe.
package phases
