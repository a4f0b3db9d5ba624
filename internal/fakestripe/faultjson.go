package fakestripe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// duration is a time.Duration in Go's form, such as "200ms".
type duration time.Duration

// MarshalText returns Go's form.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's form.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = duration(parsed)
	return nil
}

// latencyJSON is a Latency as JSON: a duration, or an object that names its
// numbers.
type latencyJSON struct {
	Fixed duration `json:"fixed,omitempty"`
	Min   duration `json:"min,omitempty"`
	Max   duration `json:"max,omitempty"`
	Mean  duration `json:"mean,omitempty"`
	P50   duration `json:"p50,omitempty"`
	P99   duration `json:"p99,omitempty"`
}

// UnmarshalJSON reads either form.
func (l *latencyJSON) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &l.Fixed)
	}
	type object latencyJSON
	return strict(b, (*object)(l))
}

// faultJSON is a Fault as JSON. It lacks the gates, and tells a missing times
// from 0, which here means until cleared.
type faultJSON struct {
	Kind             Kind           `json:"kind"`
	Match            Match          `json:"match,omitzero"`
	Skip             int            `json:"skip,omitempty"`
	Times            *int           `json:"times,omitempty"`
	Latency          latencyJSON    `json:"latency,omitzero"`
	LatencyAt        string         `json:"latency_at,omitempty"`
	RollForwardAfter duration       `json:"roll_forward_after,omitempty"`
	RetryAfter       duration       `json:"retry_after,omitempty"`
	Status           int            `json:"status,omitempty"`
	DeclineCode      string         `json:"decline_code,omitempty"`
	Code             string         `json:"code,omitempty"`
	Message          string         `json:"message,omitempty"`
	Intent           bool           `json:"intent,omitempty"`
	Over             duration       `json:"over,omitempty"`
	Set              map[string]any `json:"set,omitempty"`
}

// MarshalJSON returns what UnmarshalJSON reads, without the gates.
func (f Fault) MarshalJSON() ([]byte, error) {
	times := max(f.Times, 1)
	if f.Times < 0 {
		times = f.Times
	}
	return json.Marshal(faultJSON{
		f.Kind, f.Match, f.Skip, &times,
		latencyJSON{
			duration(f.Latency.Fixed), duration(f.Latency.Min), duration(f.Latency.Max),
			duration(f.Latency.Mean), duration(f.Latency.P50), duration(f.Latency.P99),
		},
		f.LatencyAt, duration(f.RollForwardAfter), duration(f.RetryAfter), f.Status, f.DeclineCode,
		f.Code, f.Message, f.Intent, duration(f.Over), f.Set,
	})
}

// UnmarshalJSON reads a fault; a field that it does not know is an error.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var in faultJSON
	if err := strict(b, &in); err != nil {
		return err
	}
	*f = Fault{
		Kind: in.Kind, Match: in.Match, Skip: in.Skip, LatencyAt: in.LatencyAt,
		Latency: Latency{
			time.Duration(in.Latency.Fixed), time.Duration(in.Latency.Min), time.Duration(in.Latency.Max),
			time.Duration(in.Latency.Mean), time.Duration(in.Latency.P50), time.Duration(in.Latency.P99),
		},
		RollForwardAfter: time.Duration(in.RollForwardAfter), RetryAfter: time.Duration(in.RetryAfter),
		Status: in.Status, DeclineCode: in.DeclineCode, Code: in.Code, Message: in.Message, Intent: in.Intent,
		Over: time.Duration(in.Over), Set: in.Set,
	}
	if in.Times != nil {
		f.Times = *in.Times
		if f.Times == 0 {
			f.Times = -1
		}
	}
	return nil
}

// readFaults reads one fault or a list of them, and checks each.
func readFaults(body []byte) ([]Fault, error) {
	var faults []Fault
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '[' {
		faults = make([]Fault, 1)
		if err := strict(body, &faults[0]); err != nil {
			return nil, err
		}
	} else if err := strict(body, &faults); err != nil {
		return nil, err
	}
	for i := range faults {
		if err := faults[i].check(); err != nil {
			return nil, fmt.Errorf("fault %d: %w", i, err)
		}
	}
	return faults, nil
}

// strict decodes one JSON value that has no unknown fields and nothing after
// it.
func strict(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is something after the JSON value")
	}
	return nil
}
