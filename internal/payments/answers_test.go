package payments

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"
)

type object = map[string]any

// intentWith returns the payment intent of the charge, which succeeded, with
// changes.
func intentWith(changes object) object {
	intent := object{
		"id": "pi_1", "object": "payment_intent", "amount": 2350, "amount_received": 2350, "currency": "usd",
		"customer": "cus_1", "status": "succeeded", "latest_charge": "ch_1", "created": 1795341600,
		"client_secret": "pi_1_secret_dontshow", "livemode": false,
		"metadata": object{"ride_id": "ride_1", "account_id": "acct_1", "operation": testTerms().Operation},
	}
	maps.Copy(intent, changes)
	return intent
}

// expandedWith returns the same intent with its charge expanded, which is paid,
// with changes to both.
func expandedWith(changes, chargeChanges object) object {
	charge := object{
		"id": "ch_1", "object": "charge", "amount": 2350, "paid": true, "captured": true, "status": "succeeded",
		"refunded": false, "amount_refunded": 0, "disputed": false,
	}
	maps.Copy(charge, chargeChanges)
	intent := intentWith(object{"latest_charge": charge})
	maps.Copy(intent, changes)
	return intent
}

// failedIntent returns a payment intent whose card was declined, with changes.
func failedIntent(changes object) object {
	intent := expandedWith(object{
		"status": "requires_payment_method", "amount_received": 0,
		"last_payment_error": object{
			"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
			"message": "Your card has insufficient funds.", "charge": "ch_1",
		},
	}, object{"paid": false, "captured": false, "status": "failed"})
	maps.Copy(intent, changes)
	return intent
}

// customerWith returns the customer of the charge, with changes.
func customerWith(changes object) object {
	customer := object{"id": "cus_1", "object": "customer", "livemode": false}
	maps.Copy(customer, changes)
	return customer
}

// methodWith returns the payment method of the charge, with changes.
func methodWith(changes object) object {
	method := object{"id": "pm_1", "object": "payment_method", "customer": "cus_1", "livemode": false}
	maps.Copy(method, changes)
	return method
}

// answerAccount answers with the account of the API key.
func answerAccount() http.HandlerFunc { return answerOK(object{"id": "acct_1", "object": "account"}) }

// answerUnauthorized answers that Stripe doesn't know the API key.
func answerUnauthorized() http.HandlerFunc {
	return answerError(http.StatusUnauthorized, "invalid_request_error", "", nil)
}

// foreignMetadata returns the metadata of somebody else's ride.
func foreignMetadata() object {
	return object{"ride_id": "ride_2", "account_id": "acct_2", "operation": "0123"}
}

// answerOK answers 200 with an object.
func answerOK(body object, headers ...string) http.HandlerFunc {
	return answerWith(http.StatusOK, encodeObject(body), headers...)
}

// answerPage answers 200 with a page of a list.
func answerPage(more bool, intents ...object) http.HandlerFunc {
	if intents == nil {
		intents = []object{}
	}
	return answerOK(object{"object": "list", "url": "/v1/payment_intents", "has_more": more, "data": intents})
}

// answerError answers with Stripe's error object.
func answerError(status int, kind, code string, more object, headers ...string) http.HandlerFunc {
	body := object{"type": kind, "message": "Stripe's words about " + testKey}
	if code != "" {
		body["code"] = code
	}
	maps.Copy(body, more)
	return answerWith(status, encodeObject(object{"error": body}), headers...)
}

// answerDeclined answers 402 because the card's bank declined.
func answerDeclined(more object, headers ...string) http.HandlerFunc {
	body := object{
		"decline_code": "insufficient_funds", "message": "Your card has insufficient funds.", "charge": "ch_1",
		"payment_intent": failedIntent(nil),
	}
	maps.Copy(body, more)
	return answerError(http.StatusPaymentRequired, "card_error", "card_declined", body, headers...)
}

// answerWith answers with a status, a body, and headers as names and values.
func answerWith(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Request-Id", "req_1")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may have gone
	}
}

func encodeObject(body object) string {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // only a wrong literal in a test causes this
	}
	return string(text)
}

// answerCut writes some bytes, or none, and then ends the connection.
func answerCut(bytes string, how func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(fmt.Sprintf("taking over a connection: %v", err))
		}
		_, _ = io.WriteString(conn, bytes)
		how(conn)
	}
}

func hangUp(conn net.Conn) { _ = conn.Close() }

// resetConn makes the client see "connection reset by peer" instead of an
// orderly end.
func resetConn(conn net.Conn) {
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// answerNever sends nothing until the client has gone.
func answerNever(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// answerSlowly sends an answer byte by byte, except for the last one, until the
// client has gone.
func answerSlowly(w http.ResponseWriter, r *http.Request) {
	body := encodeObject(intentWith(nil))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	for i := range len(body) - 1 {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(10 * time.Millisecond):
			_, _ = io.WriteString(w, body[i:i+1])
			_ = http.NewResponseController(w).Flush()
		}
	}
	<-r.Context().Done()
}
