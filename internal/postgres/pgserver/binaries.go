package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// errNoBinaries means that this machine has no Postgres server installed.
var errNoBinaries = errors.New("no Postgres server programs on this machine (looked in PATH and in the places of Debian, Red Hat, Homebrew and Postgres.app)")

// usualPlaces are where packages put a server without adding it to PATH. If a
// pattern matches several versions, the newest is used.
//
//nolint:gochecknoglobals // a table that nothing writes to
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // Fedora, Red Hat
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// FindBinaries returns the folder that holds this machine's initdb and
// postgres: the one in PATH, else the newest in the places where packages put
// them. It returns an error if there is none.
func FindBinaries() (string, error) {
	return findBinaries(filepath.SplitList(os.Getenv("PATH")), usualPlaces)
}

func findBinaries(path, places []string) (string, error) {
	candidates := slices.Clone(path)
	for _, place := range places {
		// Glob fails only if the pattern is malformed.
		found, err := filepath.Glob(place)
		if err != nil {
			return "", fmt.Errorf("looking for Postgres in %s: %w", place, err)
		}
		slices.SortFunc(found, func(a, b string) int { return compareVersions(b, a) })
		candidates = append(candidates, found...)
	}
	for _, candidate := range candidates {
		if dir, ok := serverIn(candidate); ok {
			return dir, nil
		}
	}
	return "", errNoBinaries
}

// serverIn returns the real folder of the server programs in dir, and reports
// whether they are there. It follows links, because postgres finds its files
// relative to where it really is, and because the account that runs it may not
// be able to reach the link.
func serverIn(dir string) (string, bool) {
	postgres, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return "", false
	}
	dir = filepath.Dir(postgres)
	return dir, isProgram(postgres) && isProgram(filepath.Join(dir, "initdb"))
}

func isProgram(path string) bool {
	stat, err := os.Stat(path)
	return err == nil && stat.Mode().IsRegular() && stat.Mode()&0o111 != 0
}

// compareVersions orders paths that differ in a version: 9.6 < 15 < 17.
func compareVersions(a, b string) int {
	return slices.Compare(numbers(a), numbers(b))
}

func numbers(path string) []int {
	var found []int
	for _, field := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(field); err == nil {
			found = append(found, n)
		}
	}
	return found
}
