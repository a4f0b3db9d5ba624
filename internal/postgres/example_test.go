package postgres_test

import (
	"context"
	"fmt"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

// Errors of Open are written for the operator: they say what to do.
func ExampleOpen() {
	pool, err := postgres.Open(context.Background(), postgres.Options{URL: "", MaxConns: 12, ApplicationName: "rocketrides-api"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	// Output:
	// no database URL: set DATABASE_URL or --database-url
}
