// Package commands holds the programs api and completer: what cmd/api and
// cmd/completer run, and what the sandbox runs as its children. Each is a
// function of its arguments that returns the exit code (see package cli).
package commands
