package commands

import (
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// TestAListSaysThatItIsCut: a list that is cut silently reads as if it were
// complete. Programs get no line that isn't JSON.
func TestAListSaysThatItIsCut(t *testing.T) {
	t.Parallel()
	const hint = "… and there are more: --limit shows them\n"
	for name, test := range map[string]struct {
		rows         []string
		json         bool
		out, errText string
	}{
		"none":           {nil, false, "NAME\n", ""},
		"none, JSON":     {nil, true, "[]\n", ""},
		"as many":        {[]string{"a", "b"}, false, "NAME\na\nb\n", ""},
		"one more":       {[]string{"a", "b", "c"}, false, "NAME\na\nb\n", hint},
		"one more, JSON": {[]string{"a", "b", "c"}, true, `["a","b"]` + "\n", ""},
	} {
		var out, errText strings.Builder
		flags := listFlags{jsonFlags: jsonFlags{JSON: test.json}, Limit: 2}
		err := printList(cli.Output{Stdout: &out, Stderr: &errText}, flags, "NAME", test.rows, func(row string) string { return row })
		if err != nil || out.String() != test.out || errText.String() != test.errText {
			t.Errorf("%s: prints %q and %q, %v", name, out.String(), errText.String(), err)
		}
	}
}
