package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// facts are what the figures depend on.
type facts struct {
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	Took       string    `json:"took"`
	Processors int       `json:"processors"`
	Processor  string    `json:"processor"`
	System     string    `json:"system"`
	Load       string    `json:"load_average_before"`
	// DiskPerRide is what a ride takes in its tables and their indexes.
	DiskPerRide float64           `json:"disk_bytes_per_ride"`
	Settings    map[string]string `json:"postgres"`
	Kernel      string            `json:"kernel"` // see writeback
}

func (r *run) facts(ctx context.Context) (facts, error) {
	f := facts{
		Version: cli.Version(), Started: time.Now().UTC(), Processors: processors(), Processor: processorName(),
		System: runtime.GOOS + "/" + runtime.GOARCH, Load: loadAverage(), Settings: map[string]string{},
		Kernel: writeback(),
	}
	for _, name := range durability() {
		var value string
		if err := r.admin.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value); err != nil {
			return f, err
		}
		f.Settings[name] = value
	}
	return f, nil
}

func (f facts) print(w io.Writer) {
	fmt.Fprintf(w, "Rocket Rides %s, %s, %d × %s, load average %s\n", f.Version, f.System, f.Processors, f.Processor, f.Load)
	fmt.Fprint(w, "Postgres:")
	for _, name := range slices.Sorted(maps.Keys(f.Settings)) {
		fmt.Fprintf(w, " %s=%s", name, f.Settings[name])
	}
	fmt.Fprintf(w, "\nKernel: %s\n", f.Kernel)
}

// othersLimit and stealLimit are from which share of its processors on the
// machine wasn't ours.
const (
	othersLimit = 0.10
	stealLimit  = 0.02
)

// disturbed says who else used the machine, or nothing.
func (r result) disturbed() string {
	var who []string
	if r.Foreign > othersLimit {
		who = append(who, fmt.Sprintf("others used %.0f %%", r.Foreign*100))
	}
	if r.Steal > stealLimit {
		who = append(who, fmt.Sprintf("%.0f %% stolen", r.Steal*100))
	}
	return strings.Join(who, ", ")
}

// load describes how much was asked for.
func (r result) load() string {
	if r.Rate > 0 {
		return fmt.Sprintf("%.0f/s", r.Rate)
	}
	return strconv.Itoa(r.Clients)
}

// line is one line of progress.
func (r result) line() string {
	line := fmt.Sprintf("%-11s %-5s %-27s %7.0f/s  p50 %7.2f  p99 %8.2f ms  postgres %5.0f µs  service %5.0f µs",
		r.Scenario, r.load(), r.System, r.PerSecond, r.P50, r.P99, r.PostgresCPU, r.ServiceCPU)
	if note := r.note(); note != "" {
		line += "  (" + note + ")"
	}
	return line
}

// note says what a reader must know before believing the figures.
func (r result) note() string {
	var notes []string
	for _, status := range slices.Sorted(maps.Keys(r.Failures)) {
		notes = append(notes, fmt.Sprintf("%d × %s", r.Failures[status], cmp.Or(strings.TrimPrefix(status, "0"), "no answer")))
	}
	if len(r.Failures) > 0 {
		notes = append(notes, fmt.Sprintf("p99 of these %.0f ms", r.Refused99))
	}
	if r.Left > 0 {
		notes = append(notes, fmt.Sprintf("%d left to the completer", r.Left))
	}
	if r.disturbed() != "" {
		notes = append(notes, "not ours: "+r.disturbed())
	}
	return strings.Join(notes, "; ")
}

// report writes the results.
func (r *run) report(f facts, stdout io.Writer) error {
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return err
	}
	middle := withCounts(medians(r.results), r.counted)
	encoded, err := json.MarshalIndent(struct {
		Facts   facts    `json:"facts"`
		Medians []result `json:"medians"`
		Runs    []result `json:"runs"`
	}{f, middle, r.results}, "", "  ")
	if err != nil {
		return err
	}
	var text strings.Builder
	f.print(&text)
	fmt.Fprintln(&text)
	table(&text, middle)
	model(&text, f, middle)
	fmt.Fprint(stdout, text.String())
	files := map[string]string{"results.json": string(encoded), "results.txt": text.String()}
	if drawn := chart(f, middle); drawn != "" {
		files["results.svg"] = drawn
	}
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(r.Out, name), []byte(content), 0o644))
	}
	return err
}

// table writes the results as a table.
func table(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tsystem\tload\t/s\tp50 ms\tp95\tp99\tmax\tcommits\tstatements\ttrips\tWAL B\timages B\tPostgres µs\tservice µs\tload+stub µs\tallocations\tMB\tconnections\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.2f\t%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%d\t\n",
			r.Scenario, r.System, r.load(), r.PerSecond, r.P50, r.P95, r.P99, r.Max, r.Commits, orUnknown(r.Statements), orUnknown(r.RoundTrips),
			r.WAL, r.PageImages, r.PostgresCPU, r.ServiceCPU+r.HelperCPU, r.StripeCPU+r.LoadCPU, r.Allocations, r.PeakMemory>>20, r.Connections)
	}
	t.Flush() //nolint:errcheck // w is memory
	for _, r := range results {
		if note := r.note(); note != "" {
			fmt.Fprintf(w, "%s, %s, %s: %s\n", r.Scenario, r.System, r.load(), note)
		}
	}
}

func orUnknown(value float64) string {
	if value == 0 {
		return "–"
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}
