package fakestripe

import "time"

// Duration is a [time.Duration] whose JSON is a string in Go's form, such as
// "200ms".
type Duration time.Duration

// MarshalText returns Go's form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's form.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}
