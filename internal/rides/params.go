package rides

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A Point is a place on earth, in degrees (WGS 84).
type Point struct {
	Lat float64 `json:"lat"` // −90 (south) to 90
	Lon float64 `json:"lon"` // −180 (west) to 180
}

// Params are what a client sends to hail a ride.
type Params struct {
	Origin      Point   `json:"origin"`
	Target      Point   `json:"target"`
	CallbackURL *string `json:"callback_url"` // nil: no callback
}

// checkParams validates the body of a new ride.
func (s *Service) checkParams(_ context.Context, _ *phases.Request, body []byte) error {
	_, faults, err := parseParams(body, s.maxFare, s.guard)
	if err != nil || len(faults) == 0 {
		return err
	}
	refusal := invalidNew(faults)
	refusal.Problem.SafeNewKey = true // the key is new, so nothing was charged under it
	return refusal
}

// invalidNew refuses faulty parameters under a key that was looked up and is
// new.
func invalidNew(faults []web.ParamFault) *web.ProblemError {
	refusal := web.InvalidParameters(faults)
	refusal.Problem.Detail += " The Idempotency-Key was not used up; send it again or a new one."
	return refusal
}

// parseParams validates the parameters of a new ride. It takes a document as
// [web.Canonical] returned it, the most that a ride may cost, in cents, and
// where callbacks may go.
//
// It returns every fault that it finds, at most one for each field, sorted by
// pointer. The parameters are usable only if there is none. Names are compared
// exactly: "Origin" is an unknown field, and "origin" is then missing. A
// document that is not an object is a [*web.JSONError], because it has no
// fields to point at.
func parseParams(canonical []byte, maxFare int64, guard *callbacks.Guard) (Params, []web.ParamFault, error) {
	members, err := objectMembers(canonical)
	if err != nil {
		return Params{}, nil, err
	}
	var faults faultList
	params := faults.params(members, maxFare, guard)
	return params, faults.sorted(), nil
}

// objectMembers returns the members of a document that is an object.
func objectMembers(canonical []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(canonical))
	decoder.UseNumber() // A float64 cannot hold every number that JSON can.
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("decoding parameters: %w", err)
	}
	members, ok := document.(map[string]any)
	if !ok {
		return nil, &web.JSONError{Reason: "The body is not a JSON object"}
	}
	return members, nil
}

// A faultList collects the faults of a document. Its methods read a part of the
// document each.
type faultList []web.ParamFault

func (f *faultList) add(at jsontext.Pointer, detail string) {
	*f = append(*f, web.ParamFault{Pointer: string(at), Detail: detail})
}

// sorted returns the faults sorted by pointer.
func (f *faultList) sorted() []web.ParamFault {
	slices.SortFunc(*f, func(a, b web.ParamFault) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return *f
}

// params checks the fare only if both points are valid.
func (f *faultList) params(members map[string]any, maxFare int64, guard *callbacks.Guard) Params {
	f.unknown("", members, "origin", "target", "callback_url")
	origin, originOK := f.point(members, "origin")
	target, targetOK := f.point(members, "target")
	if originOK && targetOK && Fare(origin, target) > maxFare {
		f.add("/target", fmt.Sprintf("Must be nearer to the origin: a ride may cost at most %d cents.", maxFare))
	}
	return Params{Origin: origin, Target: target, CallbackURL: f.callbackURL(members, guard)}
}

func (f *faultList) unknown(at jsontext.Pointer, members map[string]any, known ...string) {
	for name := range members {
		if !slices.Contains(known, name) {
			f.add(at.AppendToken(name), "Unknown field. Remove it; names are case-sensitive.")
		}
	}
}

func (f *faultList) point(members map[string]any, name string) (Point, bool) {
	at := jsontext.Pointer("/" + name)
	value, present := members[name]
	if !present {
		f.add(at, "Required, but missing.")
		return Point{}, false
	}
	coordinates, ok := value.(map[string]any)
	if !ok {
		f.add(at, "Must be an object with the numbers lat and lon.")
		return Point{}, false
	}
	f.unknown(at, coordinates, "lat", "lon")
	lat, latOK := f.degrees(at, coordinates, "lat", 90)
	lon, lonOK := f.degrees(at, coordinates, "lon", 180)
	return Point{Lat: lat, Lon: lon}, latOK && lonOK
}

func (f *faultList) degrees(at jsontext.Pointer, members map[string]any, name string, limit float64) (float64, bool) {
	at = at.AppendToken(name)
	value, present := members[name]
	if !present {
		f.add(at, "Required, but missing.")
		return 0, false
	}
	number, ok := value.(json.Number)
	if !ok {
		f.add(at, "Must be a number.")
		return 0, false
	}
	degrees, err := number.Float64()
	if err != nil {
		f.add(at, "Must be a finite number.")
		return 0, false
	}
	if degrees < -limit || degrees > limit {
		f.add(at, fmt.Sprintf("Must be between -%v and %v degrees.", limit, limit))
		return 0, false
	}
	return degrees, true
}

// callbackURL returns nil if there is no callback. null and a missing member
// mean the same, although they are different requests.
func (f *faultList) callbackURL(members map[string]any, guard *callbacks.Guard) *string {
	value := members["callback_url"]
	if value == nil {
		return nil
	}
	text, ok := value.(string)
	if !ok {
		f.add("/callback_url", "Must be a string or null.")
		return nil
	}
	if detail := guard.URLFault(text); detail != "" {
		f.add("/callback_url", detail)
		return nil
	}
	return &text
}
