package web

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The grammar of RFC 7240, section 2, in the form in which Go has regular
// expressions: another way to read the header than the one under test.
const (
	token      = "[-!#$%&'*+.^_`|~0-9A-Za-z]+"
	quoted     = `"(?:[^"\\]|\\.)*"`
	word       = `(?:` + token + `|` + quoted + `)`
	parameter  = token + `(?:[ \t]*=[ \t]*` + word + `?)?`
	preference = `(` + token + `)(?:[ \t]*=[ \t]*(` + word + `?))?(?:[ \t]*;[ \t]*(?:` + parameter + `)?)*`
	element    = `[ \t]*(?:` + preference + `)?[ \t]*`
)

var (
	wholeLine  = regexp.MustCompile(`(?s)^` + element + `(?:,` + element + `)*$`)
	oneElement = regexp.MustCompile(`(?s)^` + element + `(?:,|$)`)
	escape     = regexp.MustCompile(`(?s)\\(.)`)
)

// readByGrammar is what a line that follows the grammar says.
func readByGrammar(line string) Preferences {
	first := map[string]string{}
	for line != "" {
		found := oneElement.FindStringSubmatch(line)
		line = line[len(found[0]):]
		value := found[2]
		if strings.HasPrefix(value, `"`) {
			value = escape.ReplaceAllString(value[1:len(value)-1], "$1")
		}
		if name := strings.ToLower(found[1]); name != "" {
			if _, ok := first[name]; !ok {
				first[name] = value
			}
		}
	}
	value, asked := first["respond-async"]
	p := Preferences{Async: asked && value == ""}
	if regexp.MustCompile(`^[0-9]+$`).MatchString(first["wait"]) {
		digits := strings.TrimLeft(first["wait"], "0")
		switch {
		case len(digits) > 2 || len(digits) == 2 && digits > "30":
			p.Wait = 30 * time.Second
		case digits != "":
			p.Wait, _ = time.ParseDuration(digits + "s")
		}
	}
	return p
}

// FuzzPrefer compares two ways to read a line of Prefer. Its seeds also run as a
// test.
func FuzzPrefer(f *testing.F) {
	names := []string{"respond-async", "Respond-ASYNC", "respond-asyncs", "wait", "foo", ""}
	values := []string{"", "=1", "=", `="a, respond-async"`, `="a\", respond-async, \\"`, `="; wait=3"`, `="2\0"`, " = 31", "=0", "=x"}
	ends := []string{"", ";", "; respond-async", `;a="b, wait=9 , c"`, ` ; a=b`}
	for i, name := range names {
		for j, value := range values {
			one, two := name+value+ends[(i+j)%len(ends)], names[(i+j)%len(names)]+values[(7*i+3*j)%len(values)]
			for _, comma := range []string{",", ", ", " ,\t"} {
				f.Add(one + comma + two)
			}
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := ReadPreferences(http.Header{"Prefer": {line}})
		if got.Wait < 0 || got.Wait > maxWait || got.Wait%time.Second != 0 {
			t.Errorf("%q waits for %s", line, got.Wait)
		}
		if !wholeLine.MatchString(line) {
			return // of such a line nothing is promised but that it does no harm
		}
		if want := readByGrammar(line); got != want {
			t.Errorf("%q is read as %+v, want %+v", line, got, want)
		}
		// Preferences that the server doesn't know change nothing.
		if more := ReadPreferences(http.Header{"Prefer": {`x="1,2";y`, line, fmt.Sprintf("z%d, handling=strict", len(line))}}); more != got {
			t.Errorf("%q among others is read as %+v, want %+v", line, more, got)
		}
	})
}
