package rides

import (
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/web"
)

// streamPulse is how often a stream says something if nothing happens, and has
// its API key checked. It is short enough for most proxies, which close
// connections that are silent for a minute.
const streamPulse = 15 * time.Second

// streamRide sends a ride, and again whenever its state has changed, until it
// is at rest. The stream also ends when the process drains, and within 30
// seconds when the API key that opened it has ceased to work. seen is the ride
// as it is now. Like the time of wait, the pulse begins when the stream does.
func (s *Service) streamRide(w http.ResponseWriter, r *web.Request, wait *wait, account string, seen sighting) error {
	stream := web.StreamEvents(w, r)
	defer stream.End()
	for r.Method != http.MethodHead {
		body, err := web.EncodeJSON(seen.ride)
		if err != nil || stream.Send("ride", body) != nil || seen.atRest {
			return nil // in the middle of a stream nothing can be refused
		}
		news, ok := s.nextSighting(r, wait, stream, watch{Account: account, Ride: seen.ride.ID, Seen: seen.state})
		if !ok {
			return nil
		}
		seen = *news
	}
	return nil
}

// nextSighting waits until a ride has changed, and keeps the stream alive in
// the meantime. It returns false if the stream must end.
func (s *Service) nextSighting(r *web.Request, wait *wait, stream web.EventStream, what watch) (*sighting, bool) {
	for {
		news, reason := wait.until(what, nil)
		switch reason {
		case changed:
			return news, true
		case late:
			// With what is remembered for longer, a revoked key would live on
			// for more than 30 seconds.
			if s.recheck(r.Context(), r.Header, s.pulse*2/3) != nil || stream.KeepAlive() != nil {
				return nil, false
			}
			wait.over.Reset(s.pulse)
		case drained, gone:
			return nil, false
		}
	}
}
