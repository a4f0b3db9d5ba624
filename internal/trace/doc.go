// Package trace ties together all that is done for one request of a client, in
// any process: its log lines, the attempts of the completer, the jobs that it
// causes, and what these send.
//
// A request brings its trace in headers: X-Traceability-Id, the client's own
// name for what it does, and traceparent (W3C Trace Context). [FromHeader] puts
// the trace into a context, [Stored] is the form in which it is kept with an
// idempotency key or a job, [FromStored] puts that into a context again, and
// [ToHeader] passes it on to other servers. [Handler] adds the trace to every
// line that is logged with such a context.
//
// Each request, attempt and job has one line in the log that says what came of
// it. What else this line has to say, and how long the work has waited for the
// database and for others, is gathered in a [Line] on the way.
package trace
