// Package client calls the Rocket Rides API: it hails rides, cancels them and
// reads them, and verifies the callbacks that tell how they ended. It needs
// nothing but the standard library.
//
// # In ten minutes
//
// Make a [Client] with the address of the API and an API key. It is safe for
// concurrent use, and one for each process is enough:
//
//	rides, err := client.New(client.Config{URL: "https://rides.example.com", APIKey: os.Getenv("API_KEY")})
//
// Hail a ride. The card has been charged when Create returns without an error:
//
//	answer, err := rides.Create(ctx, client.NewRide{
//		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
//		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
//		Key:    key,
//	})
//
// # Keys
//
// An idempotency key names one wish of one person, such as one ride. Whatever
// is sent under one key, and however often, charges the card at most once, and
// every answer to it is the same.
//
// Make the key with [NewKey] when the person asks, and store it before the
// first call. Then even a process that crashes in the middle can ask again, by
// the same call with the same key, and gets the answer of the ride that it had
// hailed, or hails it now. Without a key, Create and Cancel make one for each
// call, and show it in [Answer] and [Error]. That is enough for a program that
// may forget its rides when it crashes.
//
// Never answer an error with a new key, unless the [Problem] says SafeNewKey:
// the first key may have charged, and a second one would charge again.
//
// # Errors
//
// Every method returns errors of the type *[Error], which has the key and says
// how often the request was sent. It wraps a *[Problem] if the API answered,
// and else says why there was no answer:
//
//	if problem, ok := errors.AsType[*client.Problem](err); ok {
//		switch problem.Code {
//		case client.CodeCardDeclined: // nothing was charged
//		case client.CodePaymentUnderReview: // a person decides: ask again later, with the same key
//		}
//	}
//
// An error without a Problem says nothing about the ride. It may have been
// charged. Call again with the same key, now or tomorrow: the API keeps an
// answer for 72 hours after the ride has ended, unless its operator says
// otherwise, and after that [CodeIdempotencyKeyExpired] says that there was
// one. A ride that nobody asks for again is completed all the same;
// [Client.List] finds it by its key.
//
// # Retries
//
// A call sends its request again, with the same key and the same bytes, if
// there was no answer, if only half of it came, or if the Problem says
// Retryable. It waits for as long as Retry-After says. Without that header the
// n-th pause is
//
//	min(Initial·2^(n−1), MaxPause) × a random factor in [0.5, 1], never below Initial
//
// as in Stripe's client libraries. With the defaults a call outlives the
// restart of a server, and the lease of one that died.
//
// A call gives up, and returns the last failure, if the context would end
// before the pause does, if the API asks for a longer pause than MaxPause, if
// only a person can decide ([CodePaymentUnderReview]), or after as many retries
// as [Retry] allows.
//
// Retries on several layers multiply: three layers that try three times each
// send 27 requests when the last one is down, which keeps it down. Two things
// prevent that. A [Budget] bounds the retries of all calls together. And only
// the origin of a request should retry: a service that is called by another,
// which will call again, marks the context with [Downstream], and then each of
// its calls sends one request.
//
// net/http sends a request once more by itself, without a pause, if the kept
// connection that it used turns out to be dead. It has the same key, too.
//
// # Later answers
//
// With NewRide.Async, Create returns as soon as the ride is recorded, and the
// service charges for it by itself. [Client.Wait] returns when the ride is at
// rest. A callback tells it without a connection that waits: [ReadCallback]
// verifies its signature.
//
// # Traces
//
// Every request goes through Config.Transport, retries too. Put there what adds
// the headers of a trace (traceparent, X-Traceability-Id), counts or logs.
package client
