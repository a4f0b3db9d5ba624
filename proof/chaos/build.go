package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The builds of the programs.
const (
	current = "current"
	// next is the release after this one: it knows a second version of the hail
	// flow, and makes new keys in that version.
	next = "next"
)

// An edit replaces text in a source file for one build. The file itself stays
// as it is: Go reads an edited copy instead (go help build, -overlay).
type edit struct{ file, old, new string }

// nextRelease returns the edits of the build called next.
func nextRelease() []edit {
	return []edit{
		{
			"internal/rides/hail.go", "func hail(pay *payments.Stripe, store accounts.Store) phases.Flow {\n\treturn phases.NewFlow(hailFlow, hailVersion,",
			"func hail(pay *payments.Stripe, store accounts.Store) phases.Flow { return hailAt(pay, store, hailVersion+1) }\n\n" +
				"func hailAt(pay *payments.Stripe, store accounts.Store, version int) phases.Flow {\n\treturn phases.NewFlow(hailFlow, version,",
		},
		{"internal/rides/service.go", "[]phases.Flow{hail(pay, store)", "[]phases.Flow{hailAt(pay, store, hailVersion), hail(pay, store)"},
	}
}

// unsafeCommits removes the check that refuses synchronous_commit=off. The real
// programs have no setting for that.
func unsafeCommits() []edit {
	return []edit{{"internal/postgres/safety.go", `case s.has("synchronous_commit", "off"):`, `case false:`}}
}

// buildAll builds the programs of both releases into dir, and returns the
// folder of each.
func buildAll(ctx context.Context, dir string, canary bool) (map[string]string, error) {
	var always []edit
	if canary {
		always = unsafeCommits()
	}
	folders := map[string]string{}
	for release, edits := range map[string][]edit{current: always, next: append(nextRelease(), always...)} {
		folders[release] = filepath.Join(dir, release)
		if err := build(ctx, folders[release], edits); err != nil {
			return nil, fmt.Errorf("building the %s release: %w", release, err)
		}
	}
	return folders, nil
}

// build builds the programs into dir, with edits.
func build(ctx context.Context, dir string, edits []edit) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	overlay, err := writeOverlay(root, dir, edits)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-overlay="+overlay, "-o", dir+"/",
		"./cmd/api", "./cmd/completer", "./cmd/fakestripe")
	command.Dir = root
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(gomod)))
	if _, err := os.Stat(filepath.Join(root, "cmd/api")); err != nil {
		return "", fmt.Errorf("chaos builds the programs from their source, so run it inside the repository: %w", err)
	}
	return root, nil
}

// writeOverlay writes the edited files, and the list of them for go build. It
// returns the path of the list.
func writeOverlay(root, dir string, edits []edit) (string, error) {
	replaced := map[string]string{}
	for i, e := range edits {
		path := filepath.Join(root, e.file)
		source, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if strings.Count(string(source), e.old) != 1 {
			return "", fmt.Errorf("%s does not hold this text exactly once, so chaos can't replace it; adapt proof/chaos/build.go: %q", e.file, e.old)
		}
		edited := filepath.Join(dir, fmt.Sprintf("edit%d.go", i))
		if err := os.WriteFile(edited, []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			return "", err
		}
		replaced[path] = edited
	}
	list, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}
