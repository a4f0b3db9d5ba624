package fakestripe

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// EventRule says how events are sent to the webhook endpoints. The zero value
// sends each event once, at once, as a snapshot event.
type EventRule struct {
	// Types are those of the events that the rule is for; empty means all.
	Types []string `json:"types,omitempty"`
	// Shape is "snapshot", "thin", or "both"; then each change is told by two
	// events with different ids. "" means "snapshot".
	Shape string `json:"shape,omitempty"`
	// Delay is how late an event is, by the fake's clock. A random one shuffles
	// the events.
	Delay Latency `json:"delay,omitzero"`
	// Times is how often an event is sent; 0 means once.
	Times int `json:"times,omitempty"`
	// Never means that it isn't sent at all.
	Never bool `json:"never,omitempty"`
}

// check returns an error if the rule makes no sense.
func (r *EventRule) check() error {
	r.Shape = cmp.Or(r.Shape, shapeSnapshot)
	switch {
	case !slices.Contains([]string{shapeSnapshot, shapeThin, shapeBoth}, r.Shape):
		return fmt.Errorf("an event's shape is %s, %s or %s, not %q", shapeSnapshot, shapeThin, shapeBoth, r.Shape)
	case r.Times < 0 || r.Times > 100:
		return fmt.Errorf("an event can be sent up to 100 times, not %d", r.Times)
	}
	return r.Delay.check()
}

// SetEventRules replaces the rules for events that are made from now on. The
// first rule that is for an event counts. The rules are kept in memory only. It
// panics if a rule makes no sense.
func (s *Server) SetEventRules(rules ...EventRule) {
	if err := s.setEventRules(rules); err != nil {
		panic("fakestripe: " + err.Error())
	}
}

func (s *Server) setEventRules(rules []EventRule) error {
	rules = slices.Clone(rules)
	for i := range rules {
		if err := rules[i].check(); err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventRules = rules
	return nil
}

// ruleFor returns the rule for events of a type. The caller holds the lock.
func (s *Server) ruleFor(kind string) EventRule {
	for _, rule := range s.eventRules {
		if len(rule.Types) == 0 || slices.Contains(rule.Types, kind) {
			return rule
		}
	}
	return EventRule{Shape: shapeSnapshot}
}

// eventsShape is how the controls show events.
type eventsShape struct {
	Endpoints []string     `json:"endpoints"`
	Rules     []EventRule  `json:"rules"`
	Events    []eventShape `json:"events"`
	// Pending are the deliveries that no endpoint has acknowledged yet.
	Pending []delivery `json:"pending"`
}

type eventShape struct {
	ID       string `json:"id"`
	ThinID   string `json:"thin_id"`
	Type     string `json:"type"`
	ObjectID string `json:"object_id"`
	Created  int64  `json:"created"`
}

func (s *Server) showEvents(*http.Request) (any, error) {
	shown := eventsShape{Endpoints: append([]string{}, s.endpoints...), Events: []eventShape{}}
	s.view(func(st *state) {
		shown.Rules = append([]EventRule{}, s.eventRules...)
		shown.Pending = append([]delivery{}, st.deliveries...)
		for n := range st.notices.all() {
			shown.Events = append(shown.Events, eventShape{n.ID, n.ThinID, n.Type, n.ObjectID, n.Created})
		}
	})
	return shown, nil
}

func (s *Server) addEventRules(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the rules: %w", err)
	}
	rules, err := readList[EventRule](body)
	if err != nil {
		return nil, err
	}
	if err := s.setEventRules(rules); err != nil {
		return nil, err
	}
	return s.showEvents(r)
}

func (s *Server) removeEventRules(r *http.Request) (any, error) {
	s.SetEventRules()
	return s.showEvents(r)
}

func (s *Server) sendEvent(r *http.Request) (any, error) {
	which := struct {
		ID    string `json:"id"`
		Shape string `json:"shape"`
	}{Shape: shapeSnapshot}
	if err := readBody(r, &which); err != nil {
		return nil, err
	}
	return map[string]string{"status": "ok"}, s.Send(which.ID, which.Shape)
}
