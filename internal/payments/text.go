package payments

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// asError returns what happened as an error, for logs and for the key's row.
func (o *observation) asError() error {
	if o.fault != faultNone {
		return o.faultError()
	}
	return errors.New(o.text())
}

// faultError says why there is no answer, or only a part of one.
func (o *observation) faultError() error {
	if o.fault == faultForm {
		return o.err // Stripe was not asked
	}
	return fmt.Errorf("asking Stripe (%s): %w", o.call, o.err)
}

// text describes in one line what happened. It quotes only single words and
// numbers of an answer, and without one our own error or the transport's, so it
// holds no secret, no JSON and nothing about the card.
func (o *observation) text() string {
	if o.fault != faultNone {
		return o.faultError().Error()
	}
	parts := []string{fmt.Sprintf("Stripe (%s) answered %d", o.call, o.status)}
	add := func(what, value string) {
		if value != "" {
			parts = append(parts, what+" "+safeWord(value))
		}
	}
	if o.unreadable() {
		parts = append(parts, "with something that is not Stripe's answer to this request")
	}
	add("type", o.apiError.kind)
	add("code", o.apiError.code)
	add("parameter", o.apiError.param)
	if o.intent.id != "" {
		add("intent", o.intent.id)
		add("status", o.intent.status)
		parts = append(parts, fmt.Sprintf("amount %d %s", o.intent.amount, safeWord(o.intent.currency)))
		add("operation", o.intent.operation)
	}
	for _, t := range o.differs {
		if t.name == "customer" {
			parts = append(parts, "its customer is another one") // whose id belongs in no log
			continue
		}
		parts = append(parts, t.said())
	}
	if o.ours && o.intent.contradictsItself() {
		parts = append(parts, unpaid)
	}
	for _, id := range o.found {
		add("found", id)
	}
	for _, r := range o.refunds.all {
		add("refund", r.id)
		add("status", string(r.status))
		parts = append(parts, fmt.Sprintf("amount %d", r.amount))
	}
	add("request", o.requestID)
	return strings.Join(parts, ", ")
}

// safeWord returns text if it is a word, else "(unreadable)".
func safeWord(text string) string {
	if !isWord(text) {
		return "(unreadable)"
	}
	return text
}

// isWord reports whether text is one word, like Stripe's codes, ids and names
// of parameters, or empty. Anything longer or with other characters may be a
// piece of a document, or a secret.
func isWord(text string) bool {
	const longest = 100
	odd := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.[]", r)
	}
	return len(text) <= longest && !strings.ContainsFunc(text, odd) && !holdsSecret(text)
}

// holdsSecret reports whether text shows an API key or the client secret of an
// intent. Whatever stands between us and Stripe may send back what it was sent,
// anywhere in its answer.
func holdsSecret(text string) bool {
	within := func(part string) bool { return strings.Contains(text, part) }
	return slices.ContainsFunc(keyPrefixes(), within) || within("_secret_")
}
