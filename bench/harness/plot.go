package harness

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Plots are the charts that are made from a file of results: their names, and which rows they show.
var Plots = []struct{ File, Title, Prefix string }{
	{"bench-spsc.svg", "One producer, one consumer, one message at a time", "SPSC/"},
	{"bench-batch.svg", "One producer, one consumer, 32 messages at a time", "Batch32/"},
	{"bench-mpmc.svg", "Several producers and consumers on two cores", "MPMC/"},
	{"bench-roundtrip.svg", "Round trip, both sides spinning (closed loop)", "RoundTrip/"},
	{"bench-wake.svg", "Round trip, both sides asleep (one a millisecond, p50)", "Wake/"},
	{"bench-openloop.svg", "Latency at a fixed rate (open loop, p50)", "OpenLoop/"},
	{"bench-large.svg", "Large messages", "Large/"},
}

// The measures of a chart, in pixels.
const (
	plotWidth  = 860
	plotLeft   = 230
	plotRight  = 90
	plotBar    = 14
	plotGap    = 6
	plotHead   = 70
	plotGroup  = 30
	plotFooter = 34
)

// Plot draws the medians of some rows as bars with their spread, on a logarithmic scale; empty when there are none. It says on which machine they were measured.
func Plot(title, prefix string, runs []Run, rest []string) string {
	split := Tag(runs)
	all, cells := Summarize(runs)
	var rows []string
	low, high, height := math.Inf(1), 0.0, plotHead+plotFooter
	for _, row := range all {
		if !strings.HasPrefix(row, prefix) {
			continue
		}
		rows = append(rows, row)
		height += plotGroup + len(cells[row])*(plotBar+plotGap)
		for _, c := range cells[row] {
			low, high = min(low, c.Low), max(high, c.High)
		}
	}
	if len(rows) == 0 || low <= 0 {
		return ""
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), high*1.2
	x := func(v float64) float64 {
		return plotLeft + (plotWidth-plotLeft-plotRight)*(math.Log(max(v, low)/low)/math.Log(high/low))
	}
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	text := func(x, y float64, class, s string) {
		put(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, html.EscapeString(s))
	}
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`, plotWidth, height, html.EscapeString(title))
	put(`<style>text{font:12px sans-serif;fill:#333}.t{font-size:16px;font-weight:bold}.s{font-size:11px;fill:#666}.g{font-weight:bold}.r{text-anchor:end}` +
		`.o{fill:#0a7d5a}.p{fill:#9aa5b1}.w{stroke:#333;stroke-width:1}.l{stroke:#ddd}</style>`)
	put(`<rect width="100%%" height="100%%" fill="#fff"/>`)
	text(12, 22, "t", title)
	text(12, 40, "s", Machine(rest))
	text(12, 54, "s", "floor: "+split.String())
	for decade := low; decade <= high; decade *= 10 {
		for _, k := range []float64{1, 2, 5} {
			if v := k * decade; v <= high {
				put(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" class="l"/>`, x(v), x(v), plotHead, height-plotFooter)
				if k == 1 || high < 300*low {
					text(x(v)-8, float64(height-plotFooter+14), "s", figure(v, ""))
				}
			}
		}
	}
	y := float64(plotHead)
	for _, row := range rows {
		text(12, y+20, "g", row)
		y += plotGroup
		for _, c := range cells[row] {
			class := "p"
			if strings.HasPrefix(c.Mech, "millrace") {
				class = "o"
			}
			text(plotLeft-8, y+plotBar-3, "r", c.Mech)
			put(`<rect x="%d" y="%.1f" width="%.1f" height="%d" class="%s"/>`, plotLeft, y, x(c.Median)-plotLeft, plotBar, class)
			put(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="w"/>`, x(c.Low), x(c.High), y+plotBar/2, y+plotBar/2)
			text(x(max(c.High, c.Median))+6, y+plotBar-3, "s", figure(c.Median, c.Unit))
			y += plotBar + plotGap
		}
	}
	text(12, float64(height-6), "s", "bar: median, line: least to most of the near runs; shorter is better; logarithmic scale")
	put(`</svg>`)
	return b.String()
}

// Machine is one line about where and when a file was measured.
func Machine(rest []string) string {
	env := map[string]string{}
	for _, l := range rest {
		if k, v, ok := strings.Cut(l, ": "); ok {
			env[k] = v
		}
	}
	return fmt.Sprintf("%s, %s cores, Linux %s, %s, commit %s, %s", env["cpu"], env["cores"], env["kernel"], env["go"], env["commit"], env["date"])
}
