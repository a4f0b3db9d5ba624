package invariants

import (
	"fmt"
	"strings"
	"testing"
)

const root = "../.."

func TestTheListIsReadAsAWhole(t *testing.T) {
	t.Parallel()
	list, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	const last = 27
	if len(list) != last {
		t.Errorf("there are %d invariants, want %d", len(list), last)
	}
	for n := range last {
		number := fmt.Sprint("I", n+1)
		if sentence := list[number]; !strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "//") {
			t.Errorf("%s is %q, want whole sentences", number, sentence)
		}
	}
}

func TestALegendIsSorted(t *testing.T) {
	t.Parallel()
	list := List{"I2": "Second.", "I10": "Tenth."}
	if got, want := list.Legend("I10", "I2", "I10"), "I2   Second.\nI10  Tenth.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnotherFolderHasNoList(t *testing.T) {
	t.Parallel()
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("a list was read from an empty folder")
	}
}
