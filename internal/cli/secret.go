package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// secretFile returns the name of the environment variable that names the file
// of a secret, such as DATABASE_URL_FILE for the setting DATABASE_URL. It
// returns "" for a setting without the tag secret or without a variable.
func secretFile(value *kong.Value) string {
	if value.Tag == nil || !value.Tag.Has("secret") || len(value.Tag.Envs) == 0 {
		return ""
	}
	return value.Tag.Envs[0] + "_FILE"
}

// resolveSecret reads a secret from its file. It is a resolver of kong's, which
// asks for the flags of the chosen command that the arguments lack. A result of
// nil leaves the flag to its own variable and its default. A variable that is
// empty counts as not set.
func resolveSecret(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	file := secretFile(flag.Value)
	path := os.Getenv(file)
	if path == "" {
		return nil, nil //nolint:nilnil // this is how a resolver of kong's says that it has no value
	}
	if plain := flag.Envs[0]; os.Getenv(plain) != "" {
		return nil, fmt.Errorf("%s and %s are both set; set one of them", plain, file)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator chooses the file
	if err != nil {
		return nil, fmt.Errorf("reading the file of %s: %w", file, err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return nil, fmt.Errorf("reading the file of %s: %s is empty", file, path)
	}
	return secret, nil
}

// formatHelp returns the help of a flag or argument, as kong shows it.
func formatHelp(value *kong.Value) string {
	text := kong.DefaultHelpValueFormatter(value)
	if file := secretFile(value); file != "" {
		text += fmt.Sprintf(" $%s names a file that holds it.", file)
	}
	return text
}
