// Package payments charges cards at Stripe, refunds charges, and finds out what
// became of a charge or a refund whose answer was lost. It alone imports
// stripe-go.
//
// # One request
//
//	Charge, FindCharge  charge.go   the Do and the Find of a foreign phase
//	  create            charge.go   builds the request that charges
//	  read, cancel      intent.go   build the requests about a known intent
//	  askPayer          payer.go    reads the customer and the payment method
//	  list              list.go     builds the requests for all pages
//	    send            request.go  stops while the API key is refused
//	      roundTrip     request.go  sends it, notes what the wire shows
//	  judge             charge.go   finds the row of the result table that
//	                                matches, and does what it says
//
// A refund goes the same way: Refund and FindRefund, createRefund, listRefunds
// and judgeRefund, in refund.go.
//
// A request never returns an error. What came of it, including a broken
// connection, is an observation; a result table says what the observation
// means. Exactly one row of a table matches any observation, which a test
// proves. The names of the rows are the labels of rides_stripe_results_total,
// and their reasons are what operators see at a parked key.
//
// # Files
//
//	stripe.go          the client and how it is made
//	config.go          its settings, and what is unsafe about them
//	charge.go          a charge, and how one is made and found
//	charge_form.go     the bytes that a charge sends
//	charge_results.go  the result tables of a charge
//	refund.go          a refund, and how one is made and found
//	refund_form.go     the bytes that a refund sends
//	refund_list.go     what the refunds of a payment amount to
//	refund_results.go  the result tables of a refund
//	refund_audit.go    all refunds, for an audit
//	frozen.go          how frozen bytes are sent again
//	dispute.go         the disputes of a payment
//	intent.go          payment intents: reading, canceling, their states
//	page.go            all pages of a list
//	list.go            the payment intents of customers
//	payer.go           customers and payment methods
//	verify.go          checks of what an operator decides about a charge
//	verify_refund.go   and about a refund
//	results.go         what a row of a result table is
//	observation.go     what came of a request, and the conditions of the rows
//	text.go            descriptions of observations, without secrets
//	request.go         one request, from stripe-go to its observation
//	pin.go             the Stripe account that the key must belong to
//	pin_store.go       that account's record
//	breaker.go         the pause after a refused API key
//	account.go         the account of the API key, and keys that must not be used
//	wire.go            a request on the wire, and what is seen of it
//	answer.go          the length, the depth and the memory of answers
//	transport.go       the connections to Stripe
//	throttle.go        this process's share of Stripe's limits
//	metrics.go         rides_stripe_…
//	event.go           an event of Stripe's, and its signature
//	event_object.go    what an event is about, read by GET: nothing else of an
//	                   event is believed
//	event_lists.go     the refunds and disputes that a sweep compares
package payments
