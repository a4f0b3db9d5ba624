package web

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/rocketrides/rocketrides/api"
)

//go:embed problem.html
var problemPageSource string

// problemPages makes the pages once, when the first is asked for.
//
//nolint:gochecknoglobals // made once, and nothing writes to it
var problemPages = sync.OnceValue(func() map[Code]File {
	page := template.Must(template.New("problem").Parse(problemPageSource))
	pages := make(map[Code]File, len(kinds))
	for code, kind := range kinds {
		var body, example bytes.Buffer
		if err := json.Indent(&example, api.Example(string(code)), "", "  "); err != nil {
			panic(fmt.Sprintf("web: the example of %s: %v", code, err))
		}
		err := page.Execute(&body, map[string]any{
			"Code": code, "Status": kind.status, "StatusText": http.StatusText(kind.status), "Title": kind.title,
			"Happened": prose(guides[code].happened), "Todo": prose(guides[code].todo), "Key": prose(string(guides[code].key)),
			"Example": example.String(),
		})
		if err != nil {
			panic(fmt.Sprintf("web: the page of %s: %v", code, err))
		}
		pages[code] = NewPage(body.Bytes(), "default-src 'none'; style-src 'self'; img-src data:")
	}
	return pages
})

// A part of a guide's text is code, such as a field's name, or plain.
type part struct {
	Text string
	Code bool
}

// prose returns the parts of a text whose code is between backquotes.
func prose(text string) (parts []part) {
	for i, piece := range strings.Split(text, "`") {
		parts = append(parts, part{Text: piece, Code: i%2 == 1})
	}
	return parts
}

// AnswerProblemPage answers with the page of a problem's code: that to which
// the type of such a problem leads. Another code is not found.
func AnswerProblemPage(w http.ResponseWriter, r *Request, code string) error {
	page, ok := problemPages()[Code(code)]
	if !ok {
		return NewProblemError(CodeNotFound, nil)
	}
	return AnswerFile(w, r, page)
}
