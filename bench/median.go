package main

import "slices"

// medians returns one result for all rounds of the same measurement: of each
// figure the median by itself. What was refused is added up, and of what
// disturbed the runs the worst is kept.
func medians(results []result) []result {
	type id struct {
		scenario, system string
		clients          int
	}
	var order []id
	runs := map[id][]result{}
	for _, r := range results {
		of := id{r.Scenario, r.System, r.Clients}
		if runs[of] == nil {
			order = append(order, of)
		}
		runs[of] = append(runs[of], r)
	}
	var middle []result
	for _, of := range order {
		middle = append(middle, medianOf(runs[of]))
	}
	return middle
}

// withCounts returns results with what the wire has counted of each.
func withCounts(results, counted []result) []result {
	for i := range results {
		r := &results[i]
		for _, c := range counted {
			if c.Scenario == r.Scenario && c.System == r.System && c.Clients == r.Clients {
				r.Statements, r.RoundTrips = c.Statements, c.RoundTrips
			}
		}
	}
	return results
}

func medianOf(runs []result) result {
	m := runs[0]
	m.Round, m.Failures = 0, nil
	for _, figure := range figures {
		values := make([]float64, len(runs))
		for i := range runs {
			values[i] = *figure(&runs[i])
		}
		*figure(&m) = median(values)
	}
	for _, r := range runs {
		m.Foreign, m.Steal = max(m.Foreign, r.Foreign), max(m.Steal, r.Steal)
		m.PeakMemory, m.Connections, m.Left = max(m.PeakMemory, r.PeakMemory), max(m.Connections, r.Connections), max(m.Left, r.Left)
		for status, n := range r.Failures {
			if m.Failures == nil {
				m.Failures = map[string]int{}
			}
			m.Failures[status] += n
		}
	}
	return m
}

// figures are those of a result that have a median.
var figures = []func(*result) *float64{ //nolint:gochecknoglobals // a table that nothing writes to
	func(r *result) *float64 { return &r.Rate },
	func(r *result) *float64 { return &r.Seconds },
	func(r *result) *float64 { return &r.PerSecond },
	func(r *result) *float64 { return &r.P50 },
	func(r *result) *float64 { return &r.P95 },
	func(r *result) *float64 { return &r.P99 },
	func(r *result) *float64 { return &r.Max },
	func(r *result) *float64 { return &r.Refused99 },
	func(r *result) *float64 { return &r.Commits },
	func(r *result) *float64 { return &r.Statements },
	func(r *result) *float64 { return &r.RoundTrips },
	func(r *result) *float64 { return &r.WAL },
	func(r *result) *float64 { return &r.PageImages },
	func(r *result) *float64 { return &r.PostgresCPU },
	func(r *result) *float64 { return &r.ServiceCPU },
	func(r *result) *float64 { return &r.HelperCPU },
	func(r *result) *float64 { return &r.StripeCPU },
	func(r *result) *float64 { return &r.LoadCPU },
	func(r *result) *float64 { return &r.Allocations },
}

// median returns the value in the middle, or the mean of the two there. It
// sorts the values.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
