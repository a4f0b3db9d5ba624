package api_test

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
)

// TestTheDocumentIsOpenAPI: it is valid, examples included.
func TestTheDocumentIsOpenAPI(t *testing.T) {
	t.Parallel()
	checker, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	if err := checker.Doc().Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}
