package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThePicturesAreDrawn compares each picture with its source.
func TestThePicturesAreDrawn(t *testing.T) {
	t.Parallel()
	sources, err := filepath.Glob("*.seq")
	if err != nil || len(sources) == 0 {
		t.Fatalf("there are no sources (%v)", err)
	}
	for _, path := range sources {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := draw(string(source))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if got, err := os.ReadFile(strings.TrimSuffix(path, ".seq") + ".svg"); err != nil || string(got) != want {
			t.Errorf("%s was changed, and its picture was not: make figures (%v)", path, err)
		}
	}
}

func TestMistakesInASourceAreFound(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"", "lanes A", "# x\nlanes A\nA -> B: hello", "# x\nlanes A\nhello"} {
		if drawn, err := draw(source); err == nil {
			t.Errorf("%q becomes %s", source, drawn)
		}
	}
}
