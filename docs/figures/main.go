package main

import (
	"errors"
	"fmt"
	"html"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Sizes are in pixels.
const (
	laneWidth = 210
	rowHeight = 46
	top       = 62
	// charWidth is what a character of a text takes, more or less.
	charWidth = 6.6
)

const style = `
  .ground { fill: #ffffff; } .box { fill: #f3f4f6; stroke: #9ca3af; } .lane { stroke: #d1d5db; stroke-dasharray: 3 4; }
  .arrow { stroke: #374151; fill: none; stroke-width: 1.5; } .head { fill: #374151; }
  .durable { fill: #dbeafe; } .durable-text { fill: #1e40af; font-weight: 600; } .trouble { fill: #b91c1c; font-weight: 600; } .cross { stroke: #b91c1c; stroke-width: 2; }
  text { fill: #111827; font: 13px system-ui, sans-serif; text-anchor: middle; } .name { font-weight: 600; } .halo { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    .ground, .halo { fill: #0d1117; } .box { fill: #1f2937; stroke: #6b7280; } .lane { stroke: #374151; }
    .arrow { stroke: #d1d5db; } .head { fill: #d1d5db; }
    .durable { fill: #172554; } .durable-text { fill: #93c5fd; } .trouble { fill: #fca5a5; } .cross { stroke: #fca5a5; }
    text { fill: #e5e7eb; }
  }
`

func main() {
	log.SetFlags(0)
	sources, err := filepath.Glob("docs/figures/*.seq")
	if err != nil || len(sources) == 0 {
		log.Fatal("run this at the top of the repository: there is no docs/figures/*.seq")
	}
	for _, path := range sources {
		source, err := os.ReadFile(path) //nolint:gosec // it is this repository's
		if err != nil {
			log.Fatal(err)
		}
		drawn, err := draw(string(source))
		if err != nil {
			log.Fatalf("%s: %v", path, err)
		}
		if err := os.WriteFile(strings.TrimSuffix(path, ".seq")+".svg", []byte(drawn), 0o644); err != nil { //nolint:gosec // it is a picture
			log.Fatal(err)
		}
	}
}

// A figure is a picture that is being drawn.
type figure struct {
	lanes []string
	y     int // of the step
	body  strings.Builder
}

// draw returns the picture of a diagram, or what is wrong with its source.
func draw(source string) (string, error) {
	f := figure{y: top}
	var caption string
	for line := range strings.Lines(source) {
		line = strings.TrimSpace(line)
		names, isLanes := strings.CutPrefix(line, "lanes ")
		comment, isComment := strings.CutPrefix(line, "# ")
		switch {
		case line == "":
		case isComment:
			caption = comment
		case isLanes:
			for name := range strings.SplitSeq(names, "|") {
				f.lanes = append(f.lanes, strings.TrimSpace(name))
			}
		default:
			if err := f.step(line); err != nil {
				return "", fmt.Errorf("%q: %w", line, err)
			}
			f.y += rowHeight
		}
	}
	if len(f.lanes) == 0 || caption == "" {
		return "", errors.New("it needs lanes, and a line that begins with # and says what the picture shows")
	}
	return f.svg(caption), nil
}

// The forms of a line.
var (
	messageLine = regexp.MustCompile(`^([^:]+?) -(>|x) ([^:]+?): (.*)$`)
	doesLine    = regexp.MustCompile(`^(! )?([^:]+?): (.*)$`)
)

func (f *figure) step(line string) error {
	if text, ok := strings.CutPrefix(line, "== "); ok {
		f.print(`<rect class="durable" x="8" y="%d" width="%d" height="26" rx="4"/>`, f.y-17, f.width()-16)
		f.text("durable-text", f.width()/2, f.y, text)
		return nil
	}
	if m := messageLine.FindStringSubmatch(line); m != nil {
		return f.message(m[1], m[3], m[4], m[2] == "x")
	}
	m := doesLine.FindStringSubmatch(line)
	if m == nil {
		return errors.New("it is no step")
	}
	x, err := f.x(m[2])
	if err != nil {
		return err
	}
	class := ""
	if m[1] != "" {
		class = "trouble"
	}
	f.halo(x, f.y, m[3])
	f.text(class, x, f.y, m[3])
	return nil
}

func (f *figure) message(from, to, text string, lost bool) error {
	x1, err := f.x(from)
	if err != nil {
		return err
	}
	x2, err := f.x(to)
	if err != nil {
		return err
	}
	forward := 1
	if x2 < x1 {
		forward = -1
	}
	end := x2 - 2*forward
	if lost {
		end = (x1 + 2*x2) / 3
	}
	y := f.y + 8
	f.print(`<path class="arrow" d="M%d %d H%d"/>`, x1, y, end-7*forward)
	if lost {
		f.print(`<path class="cross" d="M%d %d l10 10 m0 -10 l-10 10"/>`, end-5, y-5)
	} else {
		f.print(`<path class="head" d="M%d %d l%d -4 v8 z"/>`, end, y, -8*forward)
	}
	middle := (x1 + x2) / 2
	f.halo(middle, f.y, text)
	f.text("", middle, f.y, text)
	return nil
}

// halo covers the lanes behind a text.
func (f *figure) halo(x, y int, text string) {
	width := int(charWidth*float64(len([]rune(text)))) + 8
	f.print(`<rect class="halo" x="%d" y="%d" width="%d" height="17"/>`, x-width/2, y-13, width)
}

func (f *figure) text(class string, x, y int, text string) {
	f.print(`<text class="%s" x="%d" y="%d">%s</text>`, class, x, y, html.EscapeString(text))
}

func (f *figure) print(format string, args ...any) {
	fmt.Fprintf(&f.body, format+"\n", args...)
}

func (f *figure) width() int { return laneWidth * len(f.lanes) }

// x returns the middle of a lane.
func (f *figure) x(name string) (int, error) {
	i := slices.Index(f.lanes, name)
	if i < 0 {
		return 0, fmt.Errorf("there is no lane %q", name)
	}
	return laneWidth*i + laneWidth/2, nil
}

func (f *figure) svg(caption string) string {
	var all strings.Builder
	height := f.y - rowHeight/2 + 14
	fmt.Fprintf(&all, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", f.width(), height, f.width(), height)
	fmt.Fprintf(&all, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString(caption), style)
	fmt.Fprintf(&all, `<rect class="ground" width="%d" height="%d" rx="8"/>`+"\n", f.width(), height)
	for i, name := range f.lanes {
		x := laneWidth*i + laneWidth/2
		fmt.Fprintf(&all, `<path class="lane" d="M%d 38 V%d"/>`+"\n", x, height-8)
		fmt.Fprintf(&all, `<rect class="box" x="%d" y="10" width="130" height="28" rx="6"/>`+"\n", x-65)
		fmt.Fprintf(&all, `<text class="name" x="%d" y="29">%s</text>`+"\n", x, html.EscapeString(name))
	}
	all.WriteString(f.body.String())
	all.WriteString("</svg>\n")
	return all.String()
}
