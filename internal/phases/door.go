package phases

import (
	"fmt"
	"sync"
	"time"
)

const (
	// maxDelay is how long a request may have to wait at the door.
	maxDelay = time.Second
	// alwaysIn is how many requests may be inside at any pace: as many as are on
	// their way at once, and as many again that go next.
	alwaysIn = 2 * maxTrips * maxGathered
	// mostIn is how many may be inside, however fast they get through. If the
	// database stops then, no more than these wait for it.
	mostIn = 8192
	// paceMemory is how many of the last requests that count for the pace make
	// most of it.
	paceMemory = 32
)

// errCrowded refuses a request at the door.
var errCrowded = fmt.Errorf("%w: those before it take too long", ErrBusy)

// A door keeps requests out for which the database has no time. Inside are
// those whose key is being looked up or claimed; one that has claimed its key,
// or got its answer, is through. A request that comes is refused if it would
// have to wait for more than maxDelay, as fast as others got through lately. So
// however many come, those inside stay as many as the database can serve, and
// the others needn't wait for their refusal.
type door struct {
	mu     sync.Mutex
	inside int
	passed int // how many have got through
	// pace is the time from one request that gets through to the next one.
	pace time.Duration
}

// newDoor returns a door through which nobody has gone. Until its pace is
// known, alwaysIn requests are let in.
func newDoor() *door { return &door{pace: maxDelay / alwaysIn} }

// A visit is that of a request that was let in. The zero value is over.
type visit struct {
	door  *door
	since time.Time
	// place counts those who were inside when the request came, itself
	// included, and passed those who had got through.
	place, passed int
}

// enter lets a request in, or reports that there are too many.
func (d *door) enter() (v visit, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crowded() {
		return visit{}, false
	}
	d.inside++
	return visit{door: d, since: time.Now(), place: d.inside, passed: d.passed}, true
}

// crowded reports whether a request that comes is refused. The caller has
// locked the door.
func (d *door) crowded() bool {
	return d.inside >= mostIn || d.inside >= alwaysIn && time.Duration(d.inside)*d.pace > maxDelay
}

// through notes that the request has got through. Once is enough.
func (v *visit) through() {
	d := v.door
	if d == nil {
		return
	}
	v.door = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	d.passed++
	// Of few, each is served in its own time. They show that the pace may be so
	// fast, but not that it is no faster.
	if pace := time.Since(v.since) / time.Duration(d.passed-v.passed); pace < d.pace || v.place >= alwaysIn/2 {
		d.pace += (pace - d.pace) / paceMemory
	}
}

// letIn begins a visit, or returns errCrowded. nil is nobody's.
func (e *Engine) letIn(v *visit) error {
	if v == nil {
		return nil
	}
	var ok bool
	if *v, ok = e.door.enter(); !ok {
		return e.refuseAtDoor()
	}
	return nil
}

func (e *Engine) refuseAtDoor() error {
	e.metrics.busy.WithLabelValues(limitDoor).Inc()
	return errCrowded
}

// Crowded returns the error with which Run would refuse a request because too
// many others wait, or nil. A caller asks before it takes any trouble with a
// request.
func (e *Engine) Crowded() error {
	e.door.mu.Lock()
	defer e.door.mu.Unlock()
	if e.door.crowded() {
		return e.refuseAtDoor()
	}
	return nil
}
