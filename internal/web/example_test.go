package web_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/rocketrides/rocketrides/internal/web"
)

// All spellings of one document have the same canonical form.
func ExampleCanonical() {
	for _, doc := range []string{
		`{"lon": -122.4194, "lat": 37.7749}`,
		`{ "lat":3.77749e1, "l\u006fn":-122.41940 }`,
		`{"lat": 37.7749, "lat": 37.7749}`,
	} {
		canonical, err := web.Canonical([]byte(doc))
		fmt.Printf("%s %v\n", canonical, err)
	}
	// Output:
	// {"lat":37.7749,"lon":-122.4194} <nil>
	// {"lat":37.7749,"lon":-122.4194} <nil>
	//  An object in the body has two members of the same name (at byte 17)
}

// A quoted key and a bare one are the same key.
func ExampleParseIdempotencyKey() {
	for _, value := range []string{`order-7`, `"order-7"`, `"order-7";v=1`} {
		key, err := web.ParseIdempotencyKey(http.Header{"Idempotency-Key": {value}})
		fmt.Printf("%q %v\n", key, err)
	}
	// Output:
	// "order-7" <nil>
	// "order-7" <nil>
	// "" reading the Idempotency-Key header: The key has parameters
}

func ExampleReadPreferences() {
	for _, line := range []string{"wait=5, respond-async", "wait=3600", `handling="respond-async"`} {
		preferences := web.ReadPreferences(http.Header{"Prefer": {line}})
		fmt.Println(preferences.Async, preferences.Wait)
	}
	// Output:
	// true 5s
	// false 30s
	// false 0s
}

// A handler returns what it refuses; the router writes it.
func ExampleRouter() {
	router := web.NewRouter(slog.New(slog.DiscardHandler), nil)
	router.Get("/v1/boats/{id}", func(w http.ResponseWriter, r *web.Request) error {
		if r.PathValue("id") != "boat_1" {
			return web.NewProblemError(web.CodeNotFound, nil)
		}
		return web.AnswerJSON(w, r, http.StatusOK, map[string]string{"id": r.PathValue("id")})
	})
	for _, path := range []string{"/v1/boats/boat_1", "/v1/boats/boat_2"} {
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody))
		fmt.Println(recorder.Code, recorder.Header().Get("Content-Type"))
	}
	// Output:
	// 200 application/json
	// 404 application/problem+json
}
