package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/rocketrides/rocketrides/client"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

// example returns a client of a service that runs for an example only.
func example() (c *client.Client, service *ridestest.Service, stop func()) {
	service, stop = ridestest.Example()
	c, err := client.New(client.Config{URL: service.URL, APIKey: service.APIKey})
	if err != nil {
		panic(err)
	}
	return c, service, stop
}

// Hail a ride, and ask again with the same key as a program does that has
// crashed in between: the card is charged once.
func ExampleClient_Create() {
	ctx := context.Background()
	rides, service, stop := example()
	defer stop()

	wish := client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
		Key:    client.NewKey(), // stored before the first call
	}
	for range 2 {
		answer, err := rides.Create(ctx, wish)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Ride.Status, answer.Ride.Fare.Amount, answer.Ride.Fare.Currency, "replayed:", answer.Replayed)
	}
	fmt.Println("charges:", len(service.Stripe.Charges()))
	// Output:
	// charged 2350 usd replayed: false
	// charged 2350 usd replayed: true
	// charges: 1
}

// What to do with an error depends on the code, and never is a new key the
// answer, unless the problem says so.
func ExampleProblem() {
	ctx := context.Background()
	rides, service, stop := example()
	defer stop()
	service.Stripe.Script(fakestripe.Fault{Kind: fakestripe.Declined402, DeclineCode: "lost_card"})

	_, err := rides.Create(ctx, client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
	})
	problem, ok := errors.AsType[*client.Problem](err)
	switch {
	case !ok:
		fmt.Println("no answer: call again with the same key")
	case problem.Code == client.CodeCardDeclined:
		fmt.Println(problem.Title, "because of", problem.DeclineCode)
		fmt.Println("a new key is safe:", problem.SafeNewKey)
	default:
		fmt.Println(problem)
	}
	// Output:
	// Card declined because of lost_card
	// a new key is safe: true
}

// Hail a ride without waiting for the charge, then wait for it, then cancel it.
func ExampleClient_Wait() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rides, _, stop := example()
	defer stop()

	hailed, err := rides.Create(ctx, client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
		Async:  true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(hailed.Ride.Status)
	ride, err := rides.Wait(ctx, hailed.Ride.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ride.Status)
	canceled, err := rides.Cancel(ctx, ride.ID, client.NewKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(canceled.Ride.Status, canceled.Ride.Refund.Amount)
	// Output:
	// pending
	// charged
	// canceled 2350
}

// Find the ride of a key whose answer was lost for good.
func ExampleClient_List() {
	ctx := context.Background()
	rides, _, stop := example()
	defer stop()
	hailed, err := rides.Create(ctx, client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	for ride, err := range rides.List(ctx, client.ListOptions{Key: hailed.Key}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(ride.Status, ride.Fare.Amount)
	}
	// Output: charged 2350
}

// A traced is a Transport that adds the headers of a trace to each attempt.
type traced struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context()) // a RoundTripper must not change its request
	r.Header.Set("X-Traceability-Id", "order-4711")
	response, err := t.next.RoundTrip(r)
	if err == nil {
		fmt.Println(r.Method, r.URL.Path, response.StatusCode, response.Header.Get("X-Traceability-Id"))
	}
	return response, err
}

func ExampleConfig_transport() {
	_, service, stop := example()
	defer stop()
	rides, err := client.New(client.Config{
		URL: service.URL, APIKey: service.APIKey,
		Transport: traced{next: &http.Transport{TLSHandshakeTimeout: 5 * time.Second}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = rides.Create(context.Background(), client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
	})
	fmt.Println(err)
	// Output:
	// POST /v1/rides 201 order-4711
	// <nil>
}

// Receive callbacks. While the secret is rotated, both are given.
func ExampleReadCallback() {
	const current, former = secret, otherSecret // from your settings
	handler := func(w http.ResponseWriter, r *http.Request) {
		callback, err := client.ReadCallback(r, current, former)
		if err != nil {
			http.Error(w, "this is no callback of Rocket Rides", http.StatusBadRequest)
			return
		}
		fmt.Println(callback.Type, callback.Ride.ID)
		w.WriteHeader(http.StatusNoContent)
	}
	recorder := httptest.NewRecorder()
	handler(recorder, genuineCallback(context.Background()))
	fmt.Println(recorder.Code)
	// Output:
	// ride.charged ride_1
	// 204
}
