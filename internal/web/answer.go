package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// writeTimeout bounds the writing of one answer. It starts when the answer is
// ready and not when the request arrives, because a payment may take long.
const writeTimeout = 10 * time.Second

// answer writes an answer. All of its headers but Content-Length must be set
// before. A write that fails is ignored: the client has lost its connection,
// and gets a replay when it asks again.
func answer(w http.ResponseWriter, r *Request, status int, body []byte) {
	r.record.status = status
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	// The deadline must not cut off the next answer on the same connection.
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
}

// AnswerJSON answers with a value as JSON. It writes nothing if it fails.
func AnswerJSON(w http.ResponseWriter, r *Request, status int, value any) error {
	body, err := EncodeJSON(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	answer(w, r, status, body)
	return nil
}

// AnswerResult answers with the definitive answer of an idempotency key: the
// stored status, headers and bytes, whether this request brought them about or
// an earlier one.
func AnswerResult(w http.ResponseWriter, r *Request, result phases.Result) {
	r.record.replayed, r.record.code = result.Replayed, codeOf(result.Answer)
	for name, value := range result.Answer.Headers {
		w.Header().Set(name, value)
	}
	if result.Replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	answer(w, r, result.Answer.Status, result.Answer.Body)
}

// codeOf returns the code of a stored answer that is a problem, else "". It
// reads the stored bytes because they are what the client sees; another release
// may have written them.
func codeOf(stored phases.Answer) Code {
	if stored.Headers["Content-Type"] != ProblemType {
		return ""
	}
	var problem struct {
		Code Code `json:"code"`
	}
	if json.Unmarshal(stored.Body, &problem) != nil {
		return ""
	}
	return problem.Code
}

// EncodeJSON returns value as one line of JSON, without the escapes that HTML
// would need.
func EncodeJSON(value any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encoding body: %w", err)
	}
	return body.Bytes(), nil
}
