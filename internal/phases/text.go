package phases

import "strings"

// maxText bounds a text that FitText returns, in bytes.
const maxText = 2000

// FitText makes a text fit for a column. Postgres takes neither NUL nor broken
// UTF-8 in a text, and errors of others may hold both: a key whose last error
// can't be written could be neither released nor parked, and other work that
// notes its last error could not be put off. Texts longer than maxText are cut.
func FitText(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "")
}
