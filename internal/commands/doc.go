// Package commands holds the programs api and completer, which cmd/api and
// cmd/completer run, and which the sandbox runs as child processes.
//
// # Commands
//
// A program is a struct with a field for each of its commands; api.go and
// completer.go hold those trees. A command is a struct too: its fields are its
// flags, in the form that kong reads, and its method Run does the work. See
// [cli.Run] for the parameters of Run. A command's struct is named for the
// program and the words that choose the command, which keeps the API keys of
// api apart from the idempotency keys of completer:
//
//	api serve               apiServe              api_serve.go
//	api migrate             apiMigrate            api_migrate.go
//	api accounts …          apiAccountsCreate …   api_accounts.go,
//	                                              api_accounts_change.go
//	api keys …              apiKeysCreate …       api_keys.go
//	api stripe-account      apiStripeAccount      api_stripe_account.go
//	completer run, once     completerRun …        completer_run.go
//	completer keys …        completerKeysList …   completer_keys.go
//	completer keys retry    completerKeysRetry    completer_retry.go
//	completer keys resolve  completerKeysResolve  completer_resolve.go
//	completer jobs …        completerJobsList …   completer_jobs.go
//	completer callbacks …   completerCallbacks…   completer_callbacks.go
//	completer events …      completerEventsList … completer_events.go
//	completer history       completerHistory      completer_history.go
//	completer audit         completerAudit        completer_audit.go
//	health, of both         health                health.go
//
// A new command is one such struct, in a file that its name leads to, and one
// line in the tree of its program.
//
// # Settings
//
// A setting is a field with its help, its default and its environment variable.
// One that a single command needs is a field of that command. Those that
// several commands share are in structs named …Flags, which the commands embed:
//
//	database.go   where Postgres is; opening it for a daemon or for one task
//	stripe.go     where Stripe is, with which key and time-out it is called
//	engine.go     how keys are worked on; opening all that running a flow needs
//	jobs.go       how receipts and callbacks are delivered
//	callbacks.go  which networks callbacks may go to that are not public
//	limits.go     how many requests a client may send
//	admin.go      the admin listener: /healthz, /readyz, /metrics, pprof
//	daemon.go     serving until a signal, and the shutdown after it
//	print.go      --json, and what printing for people needs
//
// Smaller ones stand beside a command that embeds them: keyFlags and
// operatorFlags (completer_keys.go), roundFlags (completer_run.go), payerFlags
// (api_accounts.go) and accountFlags (api_accounts_change.go).
//
// Values that make no sense are refused by the struct's method check…, which
// the Validate of each command that embeds it calls. The structs have no
// Validate of their own: when a command embeds two that do, Go promotes neither
// and kong calls neither.
//
// A default that differs from one command to another is a variable of kong's,
// which the line in the tree sets.
//
// How large the heap of api serve is at least is no setting: see heap.go.
package commands
