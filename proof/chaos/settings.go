package main

import (
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// The settings of the processes under test. They are short, so that many leases
// end during a run. A slow call to Stripe lasts longer than a lease, which is
// renewed meanwhile.
const (
	lease         = 1500 * time.Millisecond
	stripeTimeout = 4 * time.Second
	poll          = 200 * time.Millisecond
	firstBackoff  = 200 * time.Millisecond
	longBackoff   = 2 * time.Second
	saved500After = 5 * time.Second

	// inUseBackoff is the longest back-off of the service, after Stripe
	// answered that a key is in use. It is a constant, as is the pause after
	// Stripe refused the API key.
	inUseBackoff = 5 * time.Second

	// slack is added to a bound because the machine is busy.
	slack = 2 * time.Second

	// restBound is how long after the last fault everything must have come to
	// rest: a call ends that gets no answer, or the lease of a frozen worker, a
	// poll finds the key, and the longest back-off and the patience with a
	// saved 500 end.
	restBound = max(lease, stripeTimeout) + poll + inUseBackoff + saved500After + slack

	// goalAbandoned is how long a key that no client uses again may stay
	// unfinished after its worker was killed.
	goalAbandoned = lease + 2*time.Second
	// goalReleased is how long a released key may stay unfinished after the end
	// of an outage.
	goalReleased = 2 * time.Second
)

// newestAPI is the api that a deployment replaces by the next release, and then
// by the current one again. newestCompleter is always of the next release,
// because it must finish what that api began. The other two are always of the
// current release, and must leave those keys alone.
const (
	newestAPI       = "api-2"
	newestCompleter = "completer-2"
	stripeName      = "stripe"
)

func apiNames() []string { return []string{"api-1", newestAPI} }

func workerNames() []string { return []string{"api-1", newestAPI, "completer-1", newestCompleter} }

// linkNames returns all links: every process has its own link to each server.
func linkNames() []string {
	names := []string{clientLink("api-1"), clientLink(newestAPI)}
	for _, worker := range workerNames() {
		names = append(names, postgresLink(worker), stripeLink(worker))
	}
	return names
}

func clientLink(api string) string      { return "client→" + api }
func postgresLink(worker string) string { return worker + "→pg" }
func stripeLink(worker string) string   { return worker + "→stripe" }

// A toxic is what toxiproxy does to a link. "down" stops the link itself.
type toxic struct {
	name       string
	kind       string
	stream     string // upstream is towards the server
	attributes map[string]int
}

// toxics returns all toxics that a link may get. See
// https://github.com/Shopify/toxiproxy#toxics.
func toxics() []toxic {
	const up, down = "upstream", "downstream"
	return []toxic{
		{name: "down"},
		{"slow", "latency", down, map[string]int{"latency": 250, "jitter": 200}},
		{"slow-requests", "latency", up, map[string]int{"latency": 150, "jitter": 100}},
		{"reset", "reset_peer", down, map[string]int{"timeout": 0}},
		{"reset-later", "reset_peer", up, map[string]int{"timeout": 60}},
		{"cut-answers", "limit_data", down, map[string]int{"bytes": 700}},
		{"cut-requests", "limit_data", up, map[string]int{"bytes": 1500}},
		{"sliced", "slicer", down, map[string]int{"average_size": 64, "size_variation": 32, "delay": 500}},
		{"sliced-requests", "slicer", up, map[string]int{"average_size": 96, "size_variation": 48, "delay": 300}},
		{"mute", "timeout", down, map[string]int{"timeout": 0}},
		{"deaf", "timeout", up, map[string]int{"timeout": 0}},
	}
}

func toxicNames() []string {
	var names []string
	for _, t := range toxics() {
		names = append(names, t.name)
	}
	return names
}

// A stripeFault is a fault of the fake Stripe, with the weight by which it is
// drawn.
type stripeFault struct {
	name   string
	weight int
	fault  fakestripe.Fault
}

// stripeFaults returns the faults of the storm. Those with a large weight leave
// open what happened. The others are rare because they stop everything (401) or
// park keys (500 without an effect, another object's answer).
func stripeFaults() []stripeFault {
	const ms = fakestripe.Duration(time.Millisecond)
	every := fakestripe.Match{Method: "*"}
	refunds := fakestripe.Match{Path: "/v1/refunds"}
	return []stripeFault{
		{"500", 6, fakestripe.Fault{Kind: fakestripe.Unsaved500}},
		{"500-any", 3, fakestripe.Fault{Kind: fakestripe.Unsaved500, Match: every}},
		{"500-saved-charged", 5, fakestripe.Fault{Kind: fakestripe.Saved500WithEffect}},
		{"500-saved-later", 3, fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: 2000 * ms}},
		{"500-saved-late", 2, fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: 8000 * ms}},
		{"500-saved-nothing", 1, fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect}},
		{"409", 4, fakestripe.Fault{Kind: fakestripe.InUse409}},
		{"lock-timeout", 2, fakestripe.Fault{Kind: fakestripe.LockTimeout}},
		{"429", 3, fakestripe.Fault{Kind: fakestripe.RateLimited429, RetryAfter: 1000 * ms}},
		{"503", 4, fakestripe.Fault{Kind: fakestripe.Unavailable503}},
		{"503-any", 3, fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: every}},
		{"502-html", 4, fakestripe.Fault{Kind: fakestripe.BadGateway502}},
		{"truncated", 5, fakestripe.Fault{Kind: fakestripe.Truncated200}},
		{"truncated-any", 2, fakestripe.Fault{Kind: fakestripe.Truncated200, Match: every}},
		{"empty", 2, fakestripe.Fault{Kind: fakestripe.Empty200}},
		{"drop-before", 5, fakestripe.Fault{Kind: fakestripe.DropBefore}},
		{"drop-after", 8, fakestripe.Fault{Kind: fakestripe.DropAfter}},
		{"drip", 2, fakestripe.Fault{Kind: fakestripe.SlowDrip, Over: 1500 * ms}},
		{"slow", 6, fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: 900 * ms}}},
		{"slow-answer", 4, fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: 3000 * ms}, LatencyAt: "after"}},
		{"slow-charge", 4, fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: 3000 * ms}}},
		{"declined", 3, fakestripe.Fault{Kind: fakestripe.Declined402, DeclineCode: "insufficient_funds"}},
		{"wrong-object", 1, fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}}},
		{"refund-lost", 4, fakestripe.Fault{Kind: fakestripe.DropAfter, Match: refunds}},
		{"refund-503", 2, fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: refunds}},
		{"refund-500-saved", 2, fakestripe.Fault{Kind: fakestripe.Saved500WithEffect, Match: refunds}},
		{"refund-pending", 4, fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: "pending", Then: "succeeded", After: 1500 * ms, Match: refunds}},
		{"refund-failing", 2, fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: "pending", Then: "failed", After: 1500 * ms, Match: refunds}},
		{"401-any", 1, fakestripe.Fault{Kind: fakestripe.Unauthorized401, Match: every}},
		{"403", 1, fakestripe.Fault{Kind: fakestripe.Forbidden403}},
	}
}

// eventRules returns how the fake Stripe tells what has happened: late,
// shuffled, twice, in either shape or both, and some of it never.
func eventRules() []fakestripe.EventRule {
	const ms = fakestripe.Duration(time.Millisecond)
	late := fakestripe.Latency{Min: 0, Max: 4000 * ms}
	return []fakestripe.EventRule{
		{Types: []string{"payment_intent.succeeded"}, Shape: "both", Delay: late},
		{Types: []string{"charge.refunded"}, Never: true},
		{Types: []string{"charge.refund.updated", "refund.failed"}, Shape: "thin", Times: 2, Delay: late},
		{Delay: late},
	}
}
