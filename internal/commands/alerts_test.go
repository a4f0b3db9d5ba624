package commands

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// An alert is a rule of deploy/alerts.yaml.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// ourMetrics returns the names of our metrics in a text. A histogram has the
// name that it was registered with.
func ourMetrics(text string) (names []string) {
	for _, name := range regexp.MustCompile(`\b(?:rides|phases)_[a-z_]+`).FindAllString(text, -1) {
		names = append(names, strings.TrimSuffix(name, "_bucket"))
	}
	return names
}

// TestAlertsNameMetrics compares the rules for Prometheus with the metrics that
// the programs register, and with the table of docs/operating.md. An alert on a
// metric that doesn't exist would never fire.
func TestAlertsNameMetrics(t *testing.T) {
	t.Parallel()
	exported, fresh := newScene(t).exported(t)
	var alerted []string
	names := map[string]bool{}
	for _, a := range alerts(t) {
		if a.Alert == "" || names[a.Alert] || a.Annotations["summary"] == "" || a.Annotations["description"] == "" || !slices.Contains([]string{"page", "ticket"}, a.Labels["severity"]) {
			t.Errorf("the alert %+v lacks something, or is there twice", a)
		}
		if _, err := time.ParseDuration(a.For); a.For != "" && err != nil {
			t.Errorf("%s: %v", a.Alert, err)
		}
		names[a.Alert] = true
		found := ourMetrics(a.Expr)
		if len(found) == 0 {
			t.Errorf("%s is about none of our metrics: %s", a.Alert, a.Expr)
		}
		for _, name := range found {
			if _, ok := exported[name]; !ok {
				t.Errorf("%s is about %s, which no program exports", a.Alert, name)
			}
		}
		for _, label := range regexp.MustCompile(`(?:by \(|\{)(\w+)`).FindAllStringSubmatch(a.Expr, -1) {
			if label[1] != "le" && !slices.Contains(exported[found[0]], label[1]) {
				t.Errorf("%s is about the label %s, and %s has %v", a.Alert, label[1], found[0], exported[found[0]])
			}
		}
		for _, missing := range unseen(t, fresh, a.Expr) {
			t.Errorf("%s would miss a first %s: a fresh process doesn't show it as 0", a.Alert, missing)
		}
		alerted = append(alerted, found...)
	}
	slices.Sort(alerted)
	if got, want := slices.Compact(alerted), tabled(t); !slices.Equal(got, want) {
		t.Errorf("there are alerts on\n%s\nand the table has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// unseen returns what an expression expects to increase, metrics with the
// values of their labels, and what fresh doesn't have. From nothing to 1
// Prometheus sees no increase.
func unseen(t *testing.T, fresh prometheus.Gatherer, expr string) (missing []string) {
	t.Helper()
	families, err := fresh.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			shown[family.GetName()] = true
			for _, label := range metric.GetLabel() {
				shown[family.GetName()+" "+label.GetName()+" "+label.GetValue()] = true
			}
		}
	}
	for _, found := range regexp.MustCompile(`increase\((\w+)(?:\{(\w+)=~?"([^"]+)"\})?\[`).FindAllStringSubmatch(expr, -1) {
		wanted := []string{found[1]}
		if found[2] != "" {
			wanted = nil
			for value := range strings.SplitSeq(found[3], "|") {
				wanted = append(wanted, found[1]+" "+found[2]+" "+value)
			}
		}
		missing = append(missing, slices.DeleteFunc(wanted, func(name string) bool { return shown[name] })...)
	}
	return missing
}

// alerts returns the rules of deploy/alerts.yaml.
func alerts(t *testing.T) (all []alert) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// tabled returns the metrics of the table of alerts.
func tabled(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Alerts")
	table, _, _ = strings.Cut(table, "\n## ")
	var found []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			found = append(found, ourMetrics(cells[1])...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// exported returns the names of all metrics that api and completer register,
// with their labels, also of those that have no value yet, and a registry that
// has them all.
func (s *scene) exported(t *testing.T) (labels map[string][]string, fresh prometheus.Gatherer) {
	t.Helper()
	registry := prometheus.NewRegistry()
	log, all := slog.New(slog.DiscardHandler), recorder{Registerer: registry, labels: map[string][]string{}}
	engine := engineFlags{Lease: time.Second, BackoffInitial: time.Second, BackoffMax: time.Second, MaxAttempts: 1, MaxRides: 1, MaxPerAccount: 1, Connections: 2}
	engine.DatabaseURL, engine.StripeAPIKey, engine.StripeURL, engine.StripeTimeout = s.databaseURL, "sk_test_scene", s.stripeURL, 10*time.Second
	parts, err := engine.open(t.Context(), "api", log, all)
	if err != nil {
		t.Fatal(err)
	}
	defer parts.pool.Close()
	rides.NewService(rides.Config{Pool: parts.pool, Engine: parts.engine, Stripe: parts.stripe, Logger: log, Metrics: all}).Handler()
	if err := parts.pin.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := parts.eventWorker(log, all).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, pool, err := jobFlags{JobTimeout: time.Second, JobConcurrency: 1}.openJobs(t.Context(), engine.databaseFlags, jobs.Config{Poll: time.Second, Logger: log, Metrics: all})
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	return all.labels, registry
}

// A recorder is a registry that remembers the labels of what was registered, by
// the names of metrics.
type recorder struct {
	prometheus.Registerer

	labels map[string][]string
}

var description = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)

// Register implements prometheus.Registerer.
func (r recorder) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc, 100)
	c.Describe(descriptions)
	close(descriptions)
	for d := range descriptions {
		if found := description.FindStringSubmatch(d.String()); found != nil {
			r.labels[found[1]] = strings.Split(found[2], ",")
		}
	}
	return r.Registerer.Register(c)
}

// MustRegister implements prometheus.Registerer.
func (r recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}
