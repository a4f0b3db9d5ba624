package crash

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides"
	"github.com/rocketrides/rocketrides/proof/invariants"
)

// TestEveryFlowOfTheServiceIsHere, and in what make crash runs; and those that
// charge cards can be stopped by CHARGES=off.
func TestEveryFlowOfTheServiceIsHere(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range flows {
		all = append(all, f.name)
	}
	if line := "\nFLOW ?= " + strings.Join(all, " ") + "\n"; !strings.Contains(string(makefile), line) {
		t.Errorf("the Makefile has no line %q", line)
	}
	for _, served := range rides.Flows(nil, accounts.Store{}) {
		f, ok := flowNamed(served.Name())
		if !ok {
			t.Errorf("flows lacks %s", served.Name())
			continue
		}
		charges := f.sent == "/v1/payment_intents"
		if got := slices.Contains(rides.ChargeFlows(), f.name); got != charges {
			t.Errorf("rides.ChargeFlows has %s: %t, and it charges cards: %t", f.name, got, charges)
		}
	}
}

// TestEveryInvariantCanFail falsifies the evidence of a good run, once for each
// invariant. The check of the invariant must notice it.
func TestEveryInvariantCanFail(t *testing.T) {
	t.Parallel()
	list, err := invariants.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := goodRun(t, f)
			for _, c := range f.checks {
				if list[c.invariant] == "" {
					t.Errorf("%s is not in the list of internal/phases", c.invariant)
				}
				c.mustNotice(t, r, c.invariant+" ("+list[c.invariant]+")")
			}
		})
	}
}

// goodRun returns a run that no fault has struck, nor the machine's load. As in
// a report, load excuses no violation.
func goodRun(t *testing.T, f flow) *run {
	t.Helper()
	one := trial{setting: setting{flow: f.name, mode: "fused", script: "500-unsaved", recovery: byCompleter}}
	for try := 1; ; try++ {
		r, err := newLane(t, f).perform(t.Context(), one)
		if err == nil && r.starved() {
			if violations, _, _ := newReport(t, f.checks).judge(r, nil); len(violations) > 0 {
				t.Fatalf("%s breaks %q", one, violations)
			}
		}
		switch {
		case err == nil && !r.starved():
			return r
		case try == tries:
			t.Fatalf("no run of %d was good; the last: %v", tries, err)
		case err != nil:
			t.Logf("%s: %v", one, err)
		}
	}
}

// mustNotice fails the test unless the check accepts a good run, and notices
// false evidence of it.
func (c check) mustNotice(t *testing.T, r *run, what string) {
	t.Helper()
	sabotage, ok := sabotages[r.flow.name+" "+c.invariant]
	if !ok {
		sabotage, ok = sabotages[c.invariant]
	}
	if !ok {
		sabotage = func(e *evidence) { e.note(c.invariant, "noted while it ran") }
	}
	if _, violations := c.run(copyOf(r)); len(violations) > 0 {
		t.Errorf("%s is broken by a good run: %v", what, violations)
	}
	e := copyOf(r)
	sabotage(e)
	if applies, violations := c.run(e); len(violations) == 0 || !applies {
		t.Errorf("%s did not notice the false evidence", what)
	}
}

// copyOf returns the evidence of a run as a copy that may be changed.
func copyOf(r *run) *evidence {
	other := newRunOf(r.lane, r.trial, r.flow, r.script, r.fake, r.account)
	other.key, other.ride, other.event, other.beside = r.key, r.ride, r.event, r.beside
	other.replies, other.notes = slices.Clone(r.replies), slices.Clone(r.notes)
	for _, s := range r.snapshots {
		other.snapshots = append(other.snapshots, s.clone())
	}
	other.atRest = r.atRest.clone()
	return other.evidence()
}

// clone returns a copy of the snapshot.
func (s snapshot) clone() snapshot {
	s.keys, s.rides, s.own, s.audits = slices.Clone(s.keys), slices.Clone(s.rides), slices.Clone(s.own), slices.Clone(s.audits)
	s.jobs, s.log, s.events = slices.Clone(s.jobs), slices.Clone(s.log), slices.Clone(s.events)
	return s
}

// sabotages falsify the evidence that the check of an invariant looks at, of any
// flow or of the one that is named. Invariants that are checked only while a
// trial runs have none: mutants (proof/mutants) that TestEveryInvariantCanFail
// kills break the engine for them, and then a good run breaks I5, I10, I11 or
// I23.
var sabotages = map[string]func(*evidence){
	"I1": func(e *evidence) { e.succeeded = append(e.succeeded, e.succeeded[0]) },
	"I2": func(e *evidence) { e.succeeded[0].Amount++ },
	"I3": func(e *evidence) { e.final.keys[0].status = 402 },
	"I4": func(e *evidence) { e.final.keys[0].status = 402 },
	"I6": func(e *evidence) { e.sends = append(e.sends, fakestripe.Send{Key: "another", Body: "amount=1"}) },
	"I7": func(e *evidence) { e.final.log[1].oldToken = "nobody's" },
	"I8": func(e *evidence) {
		e.snapshots = append(e.snapshots, e.final.clone())
		e.snapshots[len(e.snapshots)-1].keys[0].whole = "changed"
	},
	"I9": func(e *evidence) {
		e.replies = append(e.replies, reply{from: 1000, to: 1001, status: 201, body: "another"})
	},
	"I12": func(e *evidence) { e.snapshots[0].audits = nil },
	"I13": func(e *evidence) { e.final.keys[0].body = "another" },
	"I15": func(e *evidence) { e.replies = append(e.replies, reply{status: 500, code: "internal"}) },
	"I16": func(e *evidence) { e.atRest.keys[0].parked = "max_attempts" },
	"I17": func(e *evidence) { e.snapshots[0].keys[0].parked = "max_attempts" },
	"I20": func(e *evidence) { e.snapshots[0].jobs = append(e.snapshots[0].jobs, e.final.jobs...) },
	"I22": func(e *evidence) { e.snapshots[1].keys[0].reaped = true },
	"I27": func(e *evidence) { e.final.jobs[0].amount++ },

	"refund_late I1":  func(e *evidence) { e.refunds = append(e.refunds, e.refunds[0]) },
	"refund_late I4":  func(e *evidence) { e.final.keys[0].status = 409 },
	"refund_late I12": func(e *evidence) { e.snapshots[0].rides[0].status = "charged" },
	"refund_late I13": func(e *evidence) { e.snapshots[1].events = nil },
	"refund_late I15": func(e *evidence) { e.replies = append(e.replies, reply{status: 400, code: "invalid_json"}) },
	"refund_late I17": func(e *evidence) { e.snapshots[len(e.snapshots)-1].keys[0].parked = "max_attempts" },
	"refund_late I21": func(e *evidence) { e.final.audits = append(e.final.audits, auditRow{"ride.charged_late", "", 1}) },
	"refund_late I22": func(e *evidence) { e.snapshots[len(e.snapshots)-1].keys[0].reaped = true },
	"refund_late I27": func(e *evidence) { e.final.rides[0].refundAmount++ },

	"order I2":  func(e *evidence) { o := e.final.order(); o.amount++; e.final.own = []any{o} },
	"order I6":  func(e *evidence) { e.sends = append(e.sends, fakestripe.Send{Key: e.sends[0].Key, Body: "amount=1"}) },
	"order I12": func(e *evidence) { e.snapshots[0].own = nil },

	"cancel I1": func(e *evidence) { e.refunds = append(e.refunds, e.refunds[0]) },
	"cancel I2": func(e *evidence) { e.final.rides[0].refundAmount++ },
	"cancel I4": func(e *evidence) { e.final.keys[0].status = 409 },
	"cancel I9": func(e *evidence) {
		e.replies = append(e.replies, reply{from: 1000, to: 1001, status: 200, body: "another"})
	},
	"cancel I12": func(e *evidence) { e.snapshots[0].rides[0].cancelKey = idempotencyKey },
	"cancel I22": func(e *evidence) { e.snapshots[len(e.snapshots)-1].keys[0].reaped = true },
	"cancel I17": func(e *evidence) { e.snapshots[len(e.snapshots)-1].keys[0].parked = "max_attempts" },
	"cancel I20": func(e *evidence) {
		e.snapshots[len(e.snapshots)-1].jobs = append(e.snapshots[len(e.snapshots)-1].jobs, e.final.jobs...)
	},
}

func TestNamesAreRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"hail/fused/happy/retry",
		"hail/stepwise/500-effect/both/pg.3.cut-after",
		"hail/fused/processing/completer/st.2.cut-part:4/pg.17.hold-before",
	} {
		if one, err := parseTrial(name); err != nil || one.String() != name {
			t.Errorf("%s was read as %s, %v", name, one, err)
		}
	}
	for _, name := range []string{
		"", "hail/fused/happy", "hail/slow/happy/retry", "hail/fused/sad/retry", "walk/fused/happy/retry",
		"hail/fused/happy/retry/pg.x.cut-after", "hail/fused/happy/retry/tcp.1.cut-after", "hail/fused/happy/retry/pg.1.burn",
	} {
		if one, err := parseTrial(name); err == nil {
			t.Errorf("%q was read as %s", name, one)
		}
	}
}
