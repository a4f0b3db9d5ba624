package web

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
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
			"Happened": guides[code].happened, "Todo": guides[code].todo, "Key": guides[code].key, "Example": example.String(),
		})
		if err != nil {
			panic(fmt.Sprintf("web: the page of %s: %v", code, err))
		}
		pages[code] = NewPage(body.Bytes(), "default-src 'none'; style-src 'self'; img-src data:")
	}
	return pages
})

// AnswerProblemPage answers with the page of a problem's code: that to which
// the type of such a problem leads. Another code is not found.
func AnswerProblemPage(w http.ResponseWriter, r *Request, code string) error {
	page, ok := problemPages()[Code(code)]
	if !ok {
		return NewProblemError(CodeNotFound, nil)
	}
	return AnswerFile(w, r, page)
}
