package main

import (
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
)

// The chart's sizes, in pixels.
const (
	chartWidth  = 970
	chartHeight = 520
	plotTop     = 96
	plotHeight  = 330
	leftPlot    = 60
	leftWidth   = 520
	rightPlot   = 660
	rightWidth  = 280
)

// colourOf is that of a system: the service stands out, the floors are grey.
func colourOf(system string) string {
	switch system {
	case product:
		return "#1f5fbf"
	case frozenFloor:
		return "#8a8f98"
	case floorNow:
		return "#c3c7cd"
	case workflows:
		return "#d9822b"
	default:
		return "#a65e9a"
	}
}

// A drawing is an SVG that is being written.
type drawing struct{ strings.Builder }

func (d *drawing) rect(x, y, width, height float64, colour string) {
	fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, width, height, colour)
}

// text writes a text. anchor is start, middle or end.
func (d *drawing) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, html.EscapeString(text))
}

// axis draws horizontal lines at round values up to the most, and returns how
// many pixels one unit has.
func (d *drawing) axis(x, width, most float64) float64 {
	step := roundStep(most / 4)
	top := step * float64(int(most/step)+1)
	for value := 0.0; value <= top; value += step {
		y := plotTop + plotHeight*(1-value/top)
		fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="grid"/>`+"\n", x, y, x+width, y)
		d.text(x-6, y+4, "end", "small", strconv.FormatFloat(value, 'f', -1, 64))
	}
	return plotHeight / top
}

// roundStep is the smallest of 1, 2, 5, 10, 20, 50, … that is at least wanted.
func roundStep(wanted float64) float64 {
	for step := 1.0; ; step *= 10 {
		for _, s := range []float64{step, 2 * step, 5 * step} {
			if s >= wanted {
				return s
			}
		}
	}
}

// chart draws the fresh rides: how many a second with how many clients, and
// what processor time one of them costs. It returns nothing if none were
// measured.
func chart(f facts, results []result) string {
	var rides []result
	var clients []int
	var systems []string
	for _, r := range results {
		if r.Scenario != fresh {
			continue
		}
		rides = append(rides, r)
		if !slices.Contains(clients, r.Clients) {
			clients = append(clients, r.Clients)
		}
		if !slices.Contains(systems, r.System) {
			systems = append(systems, r.System)
		}
	}
	if len(rides) == 0 {
		return ""
	}
	d := new(drawing)
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif">`+"\n", chartWidth, chartHeight)
	d.WriteString("<style>text{fill:#222;font-size:13px}.title{font-size:16px;font-weight:600}.small{font-size:11px;fill:#555}.value{font-size:10px;fill:#555}.grid{stroke:#ddd}</style>\n")
	d.rect(0, 0, chartWidth, chartHeight, "#fff")
	d.rates(rides, clients, systems)
	d.costs(rides, typical(rides), systems)
	note := fmt.Sprintf("%d × %s, Postgres %s, fsync %s; everything on one machine", f.Processors, f.Processor, f.Settings["server_version"], f.Settings["fsync"])
	if slices.ContainsFunc(rides, func(r result) bool { return r.disturbed() != "" }) {
		note += ". The machine was not ours alone: rates mean little"
	}
	d.text(leftPlot-40, chartHeight-10, "start", "small", note)
	d.WriteString("</svg>\n")
	return d.String()
}

// rates draws a group of bars for each number of clients.
func (d *drawing) rates(rides []result, clients []int, systems []string) {
	d.text(leftPlot-40, 28, "start", "title", "Fresh rides per second, by clients")
	for i, s := range systems {
		x := float64(leftPlot - 40 + i%3*170)
		y := float64(38 + i/3*18)
		d.rect(x, y, 11, 11, colourOf(s))
		d.text(x+16, y+10, "start", "small", s)
	}
	most := 0.0
	for _, r := range rides {
		most = max(most, r.PerSecond)
	}
	unit := d.axis(leftPlot, leftWidth, most)
	group := leftWidth / float64(len(clients))
	bar := group * 0.8 / float64(len(systems))
	for _, r := range rides {
		left := leftPlot + group*(float64(slices.Index(clients, r.Clients))+0.1)
		x := left + bar*float64(slices.Index(systems, r.System))
		d.rect(x, plotTop+plotHeight-r.PerSecond*unit, bar-2, r.PerSecond*unit, colourOf(r.System))
		d.text(x+bar/2-1, plotTop+plotHeight-r.PerSecond*unit-4, "middle", "value", fmt.Sprintf("%.0f", r.PerSecond))
	}
	for i, n := range clients {
		d.text(leftPlot+group*(float64(i)+0.5), plotTop+plotHeight+18, "middle", "", strconv.Itoa(n))
	}
}

// costs draws the processor time of a ride: Postgres below, the service on it.
func (d *drawing) costs(rides []result, clients int, systems []string) {
	d.text(rightPlot-40, 28, "start", "title", fmt.Sprintf("µs of processor per ride, %d clients", clients))
	d.text(rightPlot-40, 48, "start", "small", "dark: Postgres, light: service")
	most := 0.0
	for _, r := range rides {
		if r.Clients == clients {
			most = max(most, r.PostgresCPU+r.ServiceCPU)
		}
	}
	unit := d.axis(rightPlot, rightWidth, most)
	bar := rightWidth / float64(len(systems))
	for _, r := range rides {
		if r.Clients != clients {
			continue
		}
		x := rightPlot + bar*(float64(slices.Index(systems, r.System))+0.15)
		bottom := plotTop + plotHeight - r.PostgresCPU*unit
		d.rect(x, bottom, bar*0.7, r.PostgresCPU*unit, colourOf(r.System))
		fmt.Fprint(d, `<g opacity="0.45">`)
		d.rect(x, bottom-r.ServiceCPU*unit, bar*0.7, r.ServiceCPU*unit, colourOf(r.System))
		fmt.Fprint(d, `</g>`)
		d.text(x+bar*0.35, bottom-r.ServiceCPU*unit-4, "middle", "small", fmt.Sprintf("%.0f", r.PostgresCPU+r.ServiceCPU))
	}
}
