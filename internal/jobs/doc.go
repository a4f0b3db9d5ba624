// Package jobs does deferred work: it takes what the phases of a flow have
// staged, and delivers it. A job is a receipt by e-mail or a callback.
//
// # The way of a job
//
//	phase ──▶ staged_jobs ──▶ river.river_job ──▶ worker ──▶ mail server, receiver
//	     Stage           relay               River
//
// A phase stages a job with [Stage], in the transaction that causes it (I20).
// The relay moves staged jobs into River's table: it deletes them and inserts
// what was deleted, in one transaction of one database, so each job is moved
// once. River, a job queue on Postgres, gives each job to a worker, and again
// after a failure, with pauses that grow, for about three days. What isn't done
// by then is dead, and waits for a person.
//
// Phases stage instead of inserting into River's table, because that costs four
// times as much, and because inserts there notify: a transaction that notifies
// takes a lock of the whole server until it has committed. So only the relay
// notifies, and only once in a while.
//
// # What receipts cost rides
//
// No ride waits for that lock, whatever is delivered, because none takes it.
// The relay takes it at most ten times a second for each kind, and for no
// longer than its COMMIT. Beyond that, jobs take only what other work takes as
// well: processor time, and the database's. What bounds this is that jobs have
// a few connections of their own (Config.Pool), and Config.Concurrency: a
// process begins at most ten times as many attempts a second.
//
// BenchmarkRidesBesideReceipts (internal/commands) measures it with real
// programs, in windows that alternate, so that both see the same machine. With
// a concurrency of 256, on two cores that were busy with other work as well:
//
//	                                   rides/s   p99      waits for the lock
//	no receipts                        443       66 ms    0
//	1,000 receipts/s are staged, and   329       87 ms    0
//	  976/s of them worked
//
// # Versions
//
// A staged job has a kind and a version, and both together are its kind in
// River, such as "receipt/1". Relay and workers take only what they know, and
// leave the rest to a newer process. A process that leads River's maintenance
// also rescues jobs of processes that died, and gives up those whose kind it
// does not know. So a new version is worked a release before it is staged.
//
// # Delivered twice
//
// A job is delivered at least once (I19). It is delivered twice only if a
// process dies, or stands still, after it has sent and before River has
// acknowledged. Both deliveries have the same Message-ID or webhook-id.
//
// River gives a job that ran too long to another worker: the job is rescued.
// But its acknowledgement asks only whether a job is running, not whose attempt
// it is. So a worker that stood still could acknowledge a failure while another
// worker delivers the same job, and the job would run a third time, or stop.
// The method guard prevents that:
//
//   - An attempt that may be rescued before it ends does nothing.
//   - A failure that comes late is no failure. River looks at the job again when
//     every other attempt has ended.
//   - A delivery is noted in the job's metadata, which River writes even if the
//     job isn't running any more. A job with that note is done.
//
// # Callbacks
//
// A callback goes to a server that a client has named. What may be sent there,
// and how, is in package callbacks; here is when.
//
// An endpoint is an account and a host. It is paused when the host asks for
// time or is overloaded, and switched off when it has failed for days. Both are
// per account, because the paths of one account at a host say nothing of those
// of another.
//
// A callback is delivered when its receiver has acknowledged it, which is
// recorded before River is told. So it is sent twice only if the process dies,
// or the database fails, between the receiver's answer and that commit. A
// callback that can't be delivered is recorded as that, and its job is done: it
// is not dead, since no operator can do anything about a client's server.
//
// # Files
//
//   - stage.go: the kinds of jobs, and how a phase stages one
//   - relay.go: from staged_jobs into River's table
//   - client.go: the process that relays and works jobs, and once.go: one round
//     of that
//   - work.go: what is around every attempt at a job
//   - receipt.go: one attempt at a receipt, letter.go: what it says, and mail.go:
//     how it is sent
//   - callback.go: one attempt at a callback, and what its answer means
//   - callback_log.go: the tables callbacks, which records each callback and what
//     came of it, and callback_endpoints, which knows the endpoints in trouble
//   - lanes.go: how the workers are shared between accounts and hosts
//   - switched_off.go: the e-mail to an account whose endpoint was switched off
//   - operator.go: what operators see of jobs, and decide, callback_operator.go:
//     of callbacks, and page.go: River's own pages
//   - metrics.go: what operators measure
package jobs
