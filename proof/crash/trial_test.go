package crash

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rocketrides/rocketrides/proof/wire"
)

// The two wires.
const (
	pgWire     = "pg"
	stripeWire = "st"
)

// Who recovers after a fault.
const (
	byRetry     = "retry"     // the client, at the same process
	byOther     = "other"     // the client, at another process
	byCompleter = "completer" // the completer
	byBoth      = "both"      // the client and the completer at once
)

var (
	modes      = []string{"fused", "stepwise"}
	recoveries = []string{byRetry, byOther, byCompleter, byBoth}
)

// races reports whether several workers run at once, so that their order
// decides how many messages there are. A completer polls while it works.
func (s setting) races() bool {
	f, _ := flowNamed(s.flow)
	return s.recovery == byCompleter || s.recovery == byBoth || f.event
}

// A setting is everything about a trial except its faults.
type setting struct{ flow, mode, script, recovery string }

func (s setting) String() string {
	return strings.Join([]string{s.flow, s.mode, s.script, s.recovery}, "/")
}

// An injection is a fault at the n-th message of a wire.
type injection struct {
	wire string
	n    int
	kind wire.Kind
	part int // of CutPart and CutAnswer
}

func (p injection) String() string {
	text := fmt.Sprintf("%s.%d.%s", p.wire, p.n, p.kind)
	if p.part > 0 {
		text += fmt.Sprint(":", p.part)
	}
	return text
}

// holds reports whether the fault holds a worker.
func (p injection) holds() bool { return p.kind == wire.HoldBefore || p.kind == wire.HoldAfter }

// A trial is a setting with faults.
type trial struct {
	setting
	faults []injection
}

func (t trial) String() string {
	parts := []string{t.setting.String()}
	for _, fault := range t.faults {
		parts = append(parts, fault.String())
	}
	return strings.Join(parts, "/")
}

// parseTrial parses the name of a trial, as String returns it.
func parseTrial(text string) (trial, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 4 {
		return trial{}, fmt.Errorf("a case is flow/mode/script/recovery/fault/…, not %q", text)
	}
	t := trial{setting: setting{flow: parts[0], mode: parts[1], script: parts[2], recovery: parts[3]}}
	for _, part := range parts[4:] {
		fault, err := parseInjection(part)
		if err != nil {
			return trial{}, err
		}
		t.faults = append(t.faults, fault)
	}
	return t, t.check()
}

// check returns an error if a part of the name is unknown.
func (t trial) check() error {
	if !slices.Contains(modes, t.mode) || !slices.Contains(recoveries, t.recovery) {
		return fmt.Errorf("%s: modes are %q, recoveries %q", t, modes, recoveries)
	}
	f, ok := flowNamed(t.flow)
	if !ok {
		return fmt.Errorf("%s: there is no such flow", t)
	}
	if _, ok := f.script(t.script); !ok {
		return fmt.Errorf("%s: the flow has no such script", t)
	}
	return nil
}

// parseInjection parses an injection, as String returns it.
func parseInjection(text string) (injection, error) {
	words := strings.Split(text, ".")
	if len(words) != 3 {
		return injection{}, fmt.Errorf("a fault is wire.number.kind, not %q", text)
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || words[0] != pgWire && words[0] != stripeWire {
		return injection{}, fmt.Errorf("a fault is %s or %s, a number and a kind, not %q", pgWire, stripeWire, text)
	}
	name, number, _ := strings.Cut(words[2], ":")
	part, _ := strconv.Atoi("0" + number)
	for _, kind := range wire.Kinds() {
		if kind.String() == name {
			return injection{wire: words[0], n: n, kind: kind, part: part}, nil
		}
	}
	return injection{}, fmt.Errorf("%s: kinds are %v", text, wire.Kinds())
}
