package web

import "testing"

// Each request differs from the first in one part. If the hash left that part
// out, the two would be taken for one request.
func TestRequestHashCoversEachPart(t *testing.T) {
	t.Parallel()
	hash := func(method, route string, ids []string, body string) [32]byte {
		return requestHash(method, route, ids, []byte(body))
	}
	first := hash("POST", "/v1/rides/{id}/cancel", []string{"ride_1"}, `{}`)
	for part, other := range map[string][32]byte{
		"the method":   hash("PUT", "/v1/rides/{id}/cancel", []string{"ride_1"}, `{}`),
		"the route":    hash("POST", "/v1/rides/{id}/refund", []string{"ride_1"}, `{}`),
		"the id":       hash("POST", "/v1/rides/{id}/cancel", []string{"ride_2"}, `{}`),
		"the document": hash("POST", "/v1/rides/{id}/cancel", []string{"ride_1"}, `{"a":1}`),
	} {
		if other == first {
			t.Errorf("requests that differ only in %s have the same hash", part)
		}
	}
}
