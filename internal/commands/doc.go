// Package commands holds the programs: what cmd/api, cmd/completer and
// cmd/fakestripe run, and what the sandbox, which is one binary, runs as its
// children. Each is a function of its arguments that returns the exit code: 0
// done, 1 failed, 2 wrong usage. Logs and complaints go to stderr, results to
// stdout.
package commands
