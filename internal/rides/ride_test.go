package rides

import (
	"encoding/json"
	"testing"
	"time"
)

func TestEveryTimeHasSixDigits(t *testing.T) {
	t.Parallel()
	for want, given := range map[string]time.Time{
		`"2026-01-02T03:04:05.000000Z"`: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		`"2026-01-02T03:04:05.120000Z"`: time.Date(2026, 1, 2, 4, 4, 5, 120_000_000, time.FixedZone("", 3600)),
		`"2026-01-02T03:04:05.123456Z"`: time.Date(2026, 1, 2, 3, 4, 5, 123_456_999, time.UTC),
	} {
		got, err := json.Marshal(Ride{CreatedAt: Time{given}}.CreatedAt)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		var again Time
		if err := json.Unmarshal(got, &again); err != nil || !again.Equal(given.Truncate(time.Microsecond)) {
			t.Errorf("%s is read as %s, %v", got, again, err)
		}
	}
}
