package rides

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
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
	refusal.Problem.SafeNewKey = true // unless refuseNew finds out that the key isn't new
	return refusal
}

// invalidNew refuses faulty parameters under a key that has no row.
func invalidNew(faults []web.ParamFault) *web.ProblemError {
	return web.InvalidParameters(faults, "The Idempotency-Key was not used up; send it again or a new one.")
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
	var params Params
	faults, err := readObject(canonical, func(f *faultList) { params = f.params(maxFare, guard) })
	return params, faults, err
}

// readObject has visit read a document, and returns the faults that it found,
// sorted by pointer.
func readObject(canonical []byte, visit func(*faultList)) ([]web.ParamFault, error) {
	if len(canonical) == 0 || canonical[0] != '{' {
		return nil, &web.JSONError{Reason: "The body is not a JSON object"}
	}
	f := faultList{visit: visit}
	if err := json.Unmarshal(canonical, &f, jsontext.AllowDuplicateNames(true)); err != nil { // a canonical form has none
		return nil, fmt.Errorf("decoding parameters: %w", err)
	}
	slices.SortFunc(f.faults, func(a, b web.ParamFault) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return f.faults, nil
}

// A faultList collects the faults of a document while it is read. Its methods
// read the next value each. They return no errors, because a canonical form
// has none, and because json.Unmarshal notices what isn't read to its end.
type faultList struct {
	*jsontext.Decoder

	visit  func(*faultList)
	faults []web.ParamFault
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (f *faultList) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	f.Decoder = dec
	f.visit(f)
	return nil
}

// add notes a fault of what was read last.
func (f *faultList) add(detail string) { f.addAt(f.StackPointer(), detail) }

func (f *faultList) addAt(at jsontext.Pointer, detail string) {
	f.faults = append(f.faults, web.ParamFault{Pointer: string(at), Detail: detail})
}

// A field is a member that an object may have.
type field struct {
	name     string
	required bool
	read     func()
}

// object reads an object. Every member that isn't one of fields is a fault.
func (f *faultList) object(fields ...field) {
	_, _ = f.ReadToken()
	for f.PeekKind() == jsontext.KindString {
		name, err := f.ReadValue()
		if err != nil {
			return // else the loop would never end
		}
		i := slices.IndexFunc(fields, func(field field) bool { return field.name == string(bytes.Trim(name, `"`)) })
		if i < 0 {
			f.add("Unknown field. Remove it; names are case-sensitive.")
			_ = f.SkipValue()
			continue
		}
		fields[i].read()
		fields[i].required = false
	}
	_, _ = f.ReadToken()
	for _, missing := range fields {
		if missing.required {
			f.addAt(f.StackPointer()+jsontext.Pointer("/"+missing.name), "Required, but missing.")
		}
	}
}

// params checks the fare only if both points are valid.
func (f *faultList) params(maxFare int64, guard *callbacks.Guard) (params Params) {
	var originOK, targetOK bool
	f.object(
		field{"origin", true, func() { params.Origin, originOK = f.point() }},
		field{"target", true, func() { params.Target, targetOK = f.point() }},
		field{"callback_url", false, func() { params.CallbackURL = f.callbackURL(guard) }},
	)
	if originOK && targetOK && Fare(params.Origin, params.Target) > maxFare {
		f.addAt("/target", fmt.Sprintf("Must be nearer to the origin: a ride may cost at most %d cents.", maxFare))
	}
	return params
}

func (f *faultList) point() (point Point, ok bool) {
	if f.PeekKind() != jsontext.KindBeginObject {
		_ = f.SkipValue()
		f.add("Must be an object with the numbers lat and lon.")
		return Point{}, false
	}
	var latOK, lonOK bool
	f.object(
		field{"lat", true, func() { point.Lat, latOK = f.degrees(90) }},
		field{"lon", true, func() { point.Lon, lonOK = f.degrees(180) }},
	)
	return point, latOK && lonOK
}

func (f *faultList) degrees(limit float64) (float64, bool) {
	value, _ := f.ReadValue()
	if value.Kind() != jsontext.KindNumber {
		f.add("Must be a number.")
		return 0, false
	}
	degrees, err := strconv.ParseFloat(string(value), 64)
	if err != nil {
		f.add("Must be a finite number.")
		return 0, false
	}
	if degrees < -limit || degrees > limit {
		f.add(fmt.Sprintf("Must be between -%v and %v degrees.", limit, limit))
		return 0, false
	}
	return degrees, true
}

// callbackURL returns nil if there is no callback. null and a missing member
// mean the same, although they are different requests.
func (f *faultList) callbackURL(guard *callbacks.Guard) *string {
	value, _ := f.ReadValue()
	switch value.Kind() {
	case jsontext.KindNull:
		return nil
	case jsontext.KindString:
	default:
		f.add("Must be a string or null.")
		return nil
	}
	text, _ := jsontext.AppendUnquote(nil, value)
	url := string(text)
	if detail := guard.URLFault(url); detail != "" {
		f.add(detail)
		return nil
	}
	return &url
}
