// Package clients drives the fake with Stripe's own clients: stripe-node,
// stripe-python and stripe-ruby. It has only tests, which make
// fakestripe-clients runs, because they install the clients. That of Go is in
// the tests of package command.
package clients
