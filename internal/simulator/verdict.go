package simulator

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxFindings is how many rides the verdict names.
const maxFindings = 10

// A verdict compares what riders were told with what Stripe has charged.
type verdict struct {
	OK    bool `json:"ok"`
	Rides int  `json:"rides"` // that riders wanted
	// Retries are the requests beyond the first for each ride and each cancel,
	// and Replays the answers that an earlier request brought about.
	Retries  int64 `json:"retries"`
	Replays  int64 `json:"replays"`
	Charged  int   `json:"charged"` // rides that were answered so
	Declines int   `json:"declines"`
	Charges  int   `json:"charges"`  // in Stripe's ledger, of these rides
	Canceled int   `json:"canceled"` // rides that were answered so
	Refunds  int   `json:"refunds"`  // in Stripe's ledger, of these rides
	// Doubles are charges beyond the first of a ride, and those that belong to
	// no ride that a rider knows.
	Doubles int `json:"doubles"`
	// Lost are rides that were answered as charged and have no charge, or as
	// canceled and have no refund, and those that never had an answer.
	Lost int `json:"lost"`
	// Contradictions are rides whose answers differ, or that were charged or
	// refunded although the answer was no.
	Contradictions int `json:"contradictions"`
	// UnderReview are rides that wait for a person. They are not lost.
	UnderReview int   `json:"under_review"`
	P50         int64 `json:"p50_ms"` // from the first click to the answer
	P99         int64 `json:"p99_ms"`
	// Findings name the first rides that are not as they must be.
	Findings []string `json:"findings"`
	Seed     uint64   `json:"seed"`

	strict bool // no ride may wait for a person
}

// judge returns the verdict. before and after are the ledger's counts before
// the first ride and after the last.
func (s *simulation) judge(before, after map[string]tally) verdict {
	g := s.book.glance()
	v := verdict{
		Rides: g.rides, Replays: s.line.replays.Load(), Seed: s.Seed,
		Charged: g.charged, Declines: g.declined, P50: g.p50.Milliseconds(), P99: g.p99.Milliseconds(), Findings: []string{},
	}
	known := map[string]bool{}
	firsts := g.rides
	for _, w := range s.book.wishes {
		var mine tally
		if w.ride != "" { // "" has the charges that belong to no ride
			known[w.ride], mine = true, after[w.ride]
		}
		v.count(w, mine.Succeeded)
		v.countCancel(w, mine.Refunded)
		if w.cancel != "" {
			firsts++
		}
	}
	for ride, n := range after {
		if extra := n.Succeeded - before[ride].Succeeded; extra > 0 && !known[ride] {
			v.Doubles += extra
			v.find(fmt.Sprintf("ride %q", ride), "it has %d charges, and no rider knows it", extra)
		}
	}
	v.Retries = max(s.line.requests.Load()-int64(firsts), 0) // some firsts never left
	v.strict = s.Strict
	v.OK = v.fault() == nil
	return v
}

// Why a run has failed.
var (
	errNotOnce     = errors.New("not every ride was charged exactly once")
	errNoneCharged = errors.New("no ride was charged: this shows nothing")
	errUnderReview = errors.New("a ride waits for a person")
)

// fault returns why the run has failed, or nil. A service that declines every
// ride breaks no promise, and has kept none.
func (v verdict) fault() error {
	switch {
	case v.Doubles > 0 || v.Lost > 0 || v.Contradictions > 0:
		return errNotOnce
	case v.Charged == 0:
		return errNoneCharged
	case v.strict && v.UnderReview > 0:
		return errUnderReview
	}
	return nil
}

// count counts a wish whose ride has so many charges.
func (v *verdict) count(w *wish, charges int) {
	v.Charges += charges
	name := fmt.Sprintf("ride %q of key %s", w.ride, w.request.Key)
	if charges > 1 {
		v.Doubles += charges - 1
		v.find(name, "it was charged %d times", charges)
	}
	switch {
	case w.differ != "":
		v.Contradictions++
		v.find(name, "%s", w.differ)
	case w.outcome == outcomeDeclined && charges > 0:
		v.Contradictions++
		v.find(name, "it was declined, and charged all the same")
	case w.outcome == outcomeCharged && charges == 0:
		v.Lost++
		v.find(name, "it was answered as charged, and Stripe has no charge")
	case w.outcome == "" && w.parked:
		v.UnderReview++
	case w.outcome == "":
		v.Lost++
		v.find(name, "it never had an answer")
	}
}

// countCancel counts the cancel of a wish whose ride has so many refunds.
func (v *verdict) countCancel(w *wish, refunds int) {
	v.Refunds += refunds
	name := fmt.Sprintf("ride %q of key %s", w.ride, w.request.Key)
	switch {
	case w.cancel == cancelDone && refunds == 0:
		v.Lost++
		v.find(name, "it was canceled, and Stripe has refunded nothing")
	case w.cancel == cancelDone:
		v.Canceled++
	case w.cancel == cancelAsked:
		v.Lost++
		v.find(name, "its cancel never had an answer")
	case w.cancel == cancelUnderReview:
		v.UnderReview++
	case refunds > 0:
		v.Contradictions++
		v.find(name, "it was refunded, and nobody was told that it is canceled")
	}
}

func (v *verdict) find(name, format string, args ...any) {
	if len(v.Findings) < maxFindings {
		v.Findings = append(v.Findings, name+": "+fmt.Sprintf(format, args...))
	}
}

// text is the verdict for people.
func (v verdict) text() string {
	var text strings.Builder
	for _, finding := range v.Findings {
		fmt.Fprintln(&text, finding)
	}
	fmt.Fprintf(&text, "%d rides, %d retries, %d replays: %d charged, %d declined, %d canceled; %d charges and %d refunds in the ledger\n",
		v.Rides, v.Retries, v.Replays, v.Charged, v.Declines, v.Canceled, v.Charges, v.Refunds)
	fmt.Fprintf(&text, "%d doubles, %d lost, %d contradictions, %d under review; from click to answer p50 %s, p99 %s\n",
		v.Doubles, v.Lost, v.Contradictions, v.UnderReview,
		time.Duration(v.P50)*time.Millisecond, time.Duration(v.P99)*time.Millisecond)
	if v.OK {
		fmt.Fprintln(&text, "every ride was charged exactly once, or not at all, and every cancel gave it back")
	}
	return text.String()
}
