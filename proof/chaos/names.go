package main

import (
	"math/rand/v2"
	"time"
)

// The settings of the processes under test: short, so that many leases end
// within a run.
const (
	lease         = 3 * time.Second
	stripeTimeout = 2 * time.Second
	poll          = 200 * time.Millisecond
	firstBackoff  = 200 * time.Millisecond
	longBackoff   = 2 * time.Second
	saved500After = 5 * time.Second

	// inUseBackoff is the longest back-off there is: after Stripe said that a
	// key is in use. It is a constant of the service, as is the pause after
	// Stripe refused the API key.
	inUseBackoff = 5 * time.Second

	// slack is what a busy machine may add to a bound.
	slack = 2 * time.Second

	// restBound is how long after the last fault everything has come to rest: a
	// frozen worker's lease ends, a poll finds the key, and the longest
	// back-off and the patience with a saved 500 pass.
	restBound = lease + poll + inUseBackoff + saved500After + slack

	// goalAbandoned is how long after kill -9 a key that nobody asks for again
	// may stay unfinished.
	goalAbandoned = lease + 2*time.Second
	// goalReleased is how long after the end of an outage a key that was given
	// back may.
	goalReleased = 2 * time.Second
)

// newestAPI is the api that a deployment replaces: now by a binary with a newer
// list of flows, then back. The completer beside it always has the newer list,
// since somebody must finish what that api began; the other two never do, and
// must leave it alone.
const (
	newestAPI       = "api-2"
	newestCompleter = "completer-2"
	stripeName      = "stripe"
)

func apiNames() []string { return []string{"api-1", newestAPI} }

func workerNames() []string { return []string{"api-1", newestAPI, "completer-1", newestCompleter} }

// linkNames are all links: every process has its own to whatever it asks.
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

// A toxic is what toxiproxy does to a link; "down" is the link's own end.
type toxic struct {
	name       string
	kind       string
	stream     string // upstream is towards the server
	attributes map[string]int
}

// toxics are those that a link may get. See
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

// A stripeFault is a script of the fake Stripe's, as POST /_fake/faults takes
// it.
type stripeFault struct {
	name   string
	weight int
	script string // without times
}

// stripeFaults are those of the storm. The heavy ones leave a question open;
// the others are rare because they stop everything (401) or wait for a person
// (500 without an effect, another object's answer).
func stripeFaults() []stripeFault {
	return []stripeFault{
		{"500", 6, `"kind":"500_unsaved"`},
		{"500-any", 3, `"kind":"500_unsaved","match":{"method":"*"}`},
		{"500-saved-charged", 5, `"kind":"500_saved_with_effect"`},
		{"500-saved-later", 3, `"kind":"500_saved_without_effect","roll_forward_after":"2s"`},
		{"500-saved-nothing", 1, `"kind":"500_saved_without_effect"`},
		{"409", 4, `"kind":"409_in_use"`},
		{"lock-timeout", 2, `"kind":"lock_timeout"`},
		{"429", 3, `"kind":"429","retry_after":"1s"`},
		{"503", 4, `"kind":"503"`},
		{"503-any", 3, `"kind":"503","match":{"method":"*"}`},
		{"502-html", 4, `"kind":"502_html"`},
		{"truncated", 5, `"kind":"truncated_200"`},
		{"truncated-any", 2, `"kind":"truncated_200","match":{"method":"*"}`},
		{"empty", 2, `"kind":"empty_200"`},
		{"drop-before", 5, `"kind":"drop_before"`},
		{"drop-after", 8, `"kind":"drop_after"`},
		{"drip", 2, `"kind":"slow_drip","over":"1500ms"`},
		{"slow", 6, `"kind":"latency","latency":"900ms"`},
		{"slow-answer", 4, `"kind":"latency","latency":"3s","latency_at":"after"`},
		{"slow-charge", 4, `"kind":"latency","latency":"3s"`},
		{"declined", 3, `"kind":"402","decline_code":"insufficient_funds"`},
		{"wrong-object", 1, `"kind":"other_object","set":{"amount":1}`},
		{"401", 1, `"kind":"401"`},
	}
}

// drawStripeFault draws a fault's name by weight.
func drawStripeFault(r *rand.Rand) string {
	total := 0
	for _, f := range stripeFaults() {
		total += f.weight
	}
	left := r.IntN(total)
	for _, f := range stripeFaults() {
		if left -= f.weight; left < 0 {
			return f.name
		}
	}
	return ""
}
