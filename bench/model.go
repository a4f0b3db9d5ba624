package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
)

// filled is how busy a processor may be on average, so that what comes in a
// rush doesn't wait.
const filled = 0.6

// model writes what the figures mean for three rates: how many processors and
// how much disk they take, if the cost of a ride stays as it was measured.
func model(w io.Writer, f facts, results []result) {
	r, ok := modelOf(results)
	if !ok {
		return
	}
	fmt.Fprintf(w, "\nA fresh ride (%d clients): %.0f µs of api, %.0f µs of Postgres, %.1f kB of WAL, %.1f kB on disk. So, with processors %.0f %% busy:\n",
		r.Clients, r.ServiceCPU, r.PostgresCPU, r.WAL/1e3, f.DiskPerRide/1e3, filled*100)
	for _, rate := range []float64{1e3, 1e4, 1e5} {
		cores := func(micros float64) float64 { return math.Ceil(rate * micros / 1e6 / filled) }
		fmt.Fprintf(w, "  %6.0f rides/s: %.0f processors for the api, %.0f for Postgres; %.0f MB/s of WAL; %.1f TB of new rows a day\n",
			rate, cores(r.ServiceCPU), cores(r.PostgresCPU), rate*r.WAL/1e6, rate*f.DiskPerRide*86400/1e12)
	}
}

// modelOf returns the result that the model is made from: that of the service
// with the typical number of clients. It reports whether there is one.
func modelOf(results []result) (result, bool) {
	rides := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.Scenario != fresh || r.System != product })
	clients := typical(rides)
	for _, r := range rides {
		if r.Clients == clients {
			return r, r.Answers > 0
		}
	}
	return result{}, false
}

// typical returns with how many clients a ride costs what it mostly costs: 32,
// or else the most.
func typical(rides []result) int {
	most := 0
	for _, r := range rides {
		if r.Clients == 32 {
			return r.Clients
		}
		most = max(most, r.Clients)
	}
	return most
}

// diskPerRide returns how many bytes the tables of a ride have with their
// indexes, after VACUUM, for each ride.
func (r *run) diskPerRide(ctx context.Context) (bytes float64, err error) {
	database := r.service.database
	if err := r.exec(ctx, database, "VACUUM"); err != nil {
		return 0, err
	}
	err = r.service.pool.QueryRow(ctx, `
		SELECT sum(pg_total_relation_size(name::regclass)) / greatest((SELECT count(*) FROM rides), 1)
		FROM unnest(ARRAY['idempotency_keys', 'rides', 'audit_records', 'staged_jobs']) name`).Scan(&bytes)
	return bytes, err
}
