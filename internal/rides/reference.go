package rides

import (
	"net/http"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/internal/web"
)

// docsPolicy lets the page of the contract load what this service serves and
// nothing else. Its viewer sets styles on elements, which no policy can allow
// but 'unsafe-inline'.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"

// addReference adds the routes of the contract, for machines and for people.
// They need no authentication.
func addReference(router *web.Router) {
	router.Get("/openapi.yaml", fixed(web.NewFile("application/yaml", api.Document())))
	router.Get("/docs", fixed(web.NewPage(api.DocsPage(), docsPolicy)))
	files := map[string]web.File{}
	for _, file := range api.DocsFiles() {
		files[file.Name] = web.NewFile(file.ContentType, file.Body)
	}
	router.Get("/docs/{file}", func(w http.ResponseWriter, r *web.Request) error {
		file, ok := files[r.PathValue("file")]
		if !ok {
			return web.NewProblemError(web.CodeNotFound, nil)
		}
		return web.AnswerFile(w, r, file)
	})
	router.Get("/problems/{code}", func(w http.ResponseWriter, r *web.Request) error {
		return web.AnswerProblemPage(w, r, r.PathValue("code"))
	})
}

// fixed returns the handler that always answers with a file.
func fixed(file web.File) web.Handler {
	return func(w http.ResponseWriter, r *web.Request) error { return web.AnswerFile(w, r, file) }
}
