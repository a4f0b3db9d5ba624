package simulator

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// How often the display changes: in a terminal it is drawn again in its place,
// and elsewhere each time is a line.
const (
	liveEvery  = 200 * time.Millisecond
	plainEvery = 5 * time.Second
)

// show shows how things go, until the function that it returns is called.
func (s *simulation) show(w io.Writer) (stop func()) {
	every, draw := plainEvery, func() { fmt.Fprintln(w, s.plain()) }
	if isTerminal(w) {
		drawn := 0
		every, draw = liveEvery, func() {
			lines := s.live()
			if drawn > 0 {
				fmt.Fprintf(w, "\x1b[%dA", drawn) // up to where it began
			}
			for _, line := range lines {
				fmt.Fprintf(w, "\r\x1b[K%s\n", line)
			}
			drawn = len(lines)
		}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				draw()
			case <-end:
				draw()
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// isTerminal reports whether w is a terminal that can be drawn on.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// plain is the display as one line.
func (s *simulation) plain() string {
	g := s.book.glance()
	return fmt.Sprintf("%s: %d rides, %d charged, %d declined, %d on their way; %d requests, %d replays; p50 %s, p99 %s",
		g.since.Round(time.Second), g.rides, g.charged, g.declined, g.waiting, s.line.requests.Load(), s.line.replays.Load(),
		g.p50.Round(time.Millisecond), g.p99.Round(time.Millisecond))
}

// live is the display in a terminal.
func (s *simulation) live() []string {
	g := s.book.glance()
	const width = 40
	done := min(int(width*g.since/s.Duration), width)
	phase := "riding"
	if g.since > s.Duration {
		phase = "waiting for the last rides"
	}
	var had []string
	for _, t := range troubles() {
		had = append(had, fmt.Sprintf("%d %s", g.troubles[t], t))
	}
	return []string{
		fmt.Sprintf("%d riders  [%s%s] %s  %s", s.Riders, strings.Repeat("#", done), strings.Repeat(".", width-done), g.since.Round(time.Second), phase),
		fmt.Sprintf("  rides      %6d   charged %6d   declined %6d   on their way %4d", g.rides, g.charged, g.declined, g.waiting),
		fmt.Sprintf("  requests   %6d   replays %6d   p50 %11s   p99 %13s", s.line.requests.Load(), s.line.replays.Load(), g.p50.Round(time.Millisecond), g.p99.Round(time.Millisecond)),
		"  " + strings.Join(had, ", "),
	}
}
