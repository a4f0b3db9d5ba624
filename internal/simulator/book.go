package simulator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/client"
)

// An outcome is what a rider was told about a ride.
type outcome string

const (
	outcomeCharged  outcome = "charged"
	outcomeDeclined outcome = "declined"
)

// A cancel is what a rider was told about the cancel of a ride.
type cancel string

const (
	cancelAsked       cancel = "asked" // and there is no answer yet
	cancelDone        cancel = "done"
	cancelRefused     cancel = "refused" // for good
	cancelUnderReview cancel = "under review"
)

// A wish is a ride that a rider wants. The key is all that the rider keeps of
// it.
type wish struct {
	request client.NewRide
	begun   time.Time

	// The rest is what the rider was told. A rider may ask twice at once, so
	// told needs the book's lock. Otherwise only the rider of the wish looks at
	// it, and nobody else before all riders have gone.
	took    time.Duration // from the first click to the first outcome
	outcome outcome       // "" while there is none
	ride    string        // the ride's id; "" while it isn't known
	differ  string        // how two answers differed; "" if they didn't
	parked  bool          // a person decides
	cancel  cancel        // "" while nobody wants that
}

// book has every wish. It is safe for concurrent use.
type book struct {
	begun time.Time

	mu       sync.Mutex
	wishes   []*wish
	took     []time.Duration
	outcomes map[outcome]int
	troubles map[trouble]int
}

func newBook() *book {
	return &book{begun: time.Now(), outcomes: map[outcome]int{}, troubles: map[trouble]int{}}
}

// begin notes a new wish.
func (b *book) begin(request client.NewRide) *wish {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &wish{request: request, begun: time.Now()}
	b.wishes = append(b.wishes, w)
	return w
}

// suffer notes that a rider has trouble.
func (b *book) suffer(t trouble) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles[t]++
}

// told notes what a rider was told about a wish. ride may be "". All answers to
// one key must agree.
func (b *book) told(w *wish, what outcome, ride string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.outcome == "" {
		w.outcome, w.took = what, time.Since(w.begun)
		b.took = append(b.took, w.took)
		b.outcomes[what]++
	}
	if what != w.outcome {
		w.differ = fmt.Sprintf("it was answered as %s and as %s", w.outcome, what)
	}
	if w.ride != "" && ride != "" && ride != w.ride {
		w.differ = fmt.Sprintf("it was answered with %s and with %s", w.ride, ride)
	}
	if w.ride == "" {
		w.ride = ride
	}
}

// lookUp finds the rides of wishes whose ride isn't known: a decline doesn't
// name it, and a wish may have had no answer. The riders must have gone.
func (b *book) lookUp(ctx context.Context, c *client.Client) error {
	for _, w := range b.wishes {
		if w.ride != "" {
			continue
		}
		for ride, err := range c.List(ctx, client.ListOptions{Key: w.request.Key}) {
			if err != nil {
				return fmt.Errorf("looking for the ride of key %s: %w", w.request.Key, err)
			}
			w.parked = ride.Status == client.StatusUnderReview
			switch {
			case ride.Status == client.StatusCharged && w.outcome == outcomeDeclined:
				b.told(w, outcomeCharged, ride.ID)
			case w.ride != "" && w.ride != ride.ID:
				w.differ = fmt.Sprintf("its key has the rides %s and %s", w.ride, ride.ID)
			default:
				w.ride = ride.ID
			}
		}
	}
	return nil
}

// A glance is how things stand.
type glance struct {
	since                    time.Duration
	rides, charged, declined int
	waiting                  int
	troubles                 map[trouble]int
	p50, p99                 time.Duration
}

func (b *book) glance() glance {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := glance{
		since: time.Since(b.begun), rides: len(b.wishes), charged: b.outcomes[outcomeCharged], declined: b.outcomes[outcomeDeclined],
		troubles: maps.Clone(b.troubles),
	}
	g.waiting = g.rides - g.charged - g.declined
	sorted := slices.Sorted(slices.Values(b.took))
	g.p50, g.p99 = quantile(sorted, 50), quantile(sorted, 99)
	return g
}

// quantile returns the least value that so many percent of the values don't
// exceed, or 0 if there are none.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent+99)/100-1]
}
