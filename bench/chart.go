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

// chartStyle has the colours, for light and for dark screens: the service stands
// out, the floors are grey.
const chartStyle = `<style>
  text { fill: #222; font-size: 13px; } .title { font-size: 16px; font-weight: 600; } .small { font-size: 11px; fill: #555; }
  .ground { fill: #ffffff; } .grid { stroke: #ddd; } .above { opacity: 0.45; }
  .service { fill: #1f5fbf; } .floor { fill: #8a8f98; } .floor-now { fill: #c3c7cd; } .dbos { fill: #d9822b; } .other { fill: #a65e9a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb; } .small { fill: #b6bcc6; } .ground { fill: #0d1117; } .grid { stroke: #30363d; }
    .service { fill: #4c8df0; } .floor { fill: #a3a9b3; } .floor-now { fill: #626974; } .dbos { fill: #e5984a; } .other { fill: #c084b4; }
  }
</style>
`

// looks returns the class of a system's bars, and its name in the legend.
func looks(system string) (class, name string) {
	switch system {
	case product:
		return "service", "service"
	case frozenFloor:
		return "floor", system
	case floorNow:
		return "floor-now", system
	case workflows:
		return "dbos", system
	default:
		return "other", system
	}
}

// A drawing is an SVG that is being written.
type drawing struct{ strings.Builder }

func (d *drawing) rect(x, y, width, height float64, class string) {
	fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`+"\n", x, y, width, height, class)
}

// text writes a text. anchor is start, middle or end.
func (d *drawing) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, html.EscapeString(text))
}

// upright writes a number from (x, y) upwards: bars stand closer together than
// a number is long.
func (d *drawing) upright(x, y, number float64) {
	fmt.Fprintf(d, `<text transform="translate(%.1f %.1f) rotate(-90)" class="small">%.0f</text>`+"\n", x, y, number)
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

// chart draws the new rides: how many a second with how many clients, and
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
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" role="img">`+"\n", chartWidth, chartHeight)
	d.WriteString("<title>New rides per second, and the processor time of one</title>\n" + chartStyle)
	d.rect(0, 0, chartWidth, chartHeight, "ground")
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
	d.text(leftPlot-40, 28, "start", "title", "New rides per second, by clients")
	for i, s := range systems {
		x := float64(leftPlot - 40 + i%3*170)
		y := float64(38 + i/3*18)
		class, name := looks(s)
		d.rect(x, y, 11, 11, class)
		d.text(x+16, y+10, "start", "small", name)
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
		class, _ := looks(r.System)
		d.rect(x, plotTop+plotHeight-r.PerSecond*unit, bar-2, r.PerSecond*unit, class)
		d.upright(x+bar/2+3, plotTop+plotHeight-r.PerSecond*unit-4, r.PerSecond)
	}
	for i, n := range clients {
		d.text(leftPlot+group*(float64(i)+0.5), plotTop+plotHeight+18, "middle", "", strconv.Itoa(n))
	}
}

// costs draws the processor time of a ride: Postgres below, the service on it.
func (d *drawing) costs(rides []result, clients int, systems []string) {
	d.text(rightPlot-40, 28, "start", "title", fmt.Sprintf("Processor time per ride, %d clients", clients))
	d.text(rightPlot-40, 48, "start", "small", "µs, below of Postgres, above of the service")
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
		class, _ := looks(r.System)
		d.rect(x, bottom, bar*0.7, r.PostgresCPU*unit, class)
		d.rect(x, bottom-r.ServiceCPU*unit, bar*0.7, r.ServiceCPU*unit, class+" above")
		d.text(x+bar*0.35, bottom-r.ServiceCPU*unit-4, "middle", "small", fmt.Sprintf("%.0f", r.PostgresCPU+r.ServiceCPU))
	}
}
