package fakestripe

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestParametersAreChecked(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	long := strings.Repeat("x", 501)
	for _, test := range []struct{ name, form, code, param string }{
		{"An amount must be there.", hail("r", "amount", ""), "parameter_missing", "amount"},
		{"A currency must be there.", hail("r", "currency", ""), "parameter_missing", "currency"},
		{"An amount must be a whole number.", hail("r", "amount", "5.0"), "parameter_invalid_integer", "amount"},
		{"An amount must be plain digits.", hail("r", "amount", "+500"), "parameter_invalid_integer", "amount"},
		{"An amount must not be zero.", hail("r", "amount", "0"), "parameter_invalid_integer", "amount"},
		{"An amount must not be negative.", hail("r", "amount", "-5"), "parameter_invalid_integer", "amount"},
		{"An amount must not overflow.", hail("r", "amount", "99999999999999999999"), "parameter_invalid_integer", "amount"},
		{"An amount must reach the minimum.", hail("r", "amount", "49"), "amount_too_small", "amount"},
		{"An amount must reach its currency's minimum.", hail("r", "amount", "299", "currency", "sek"), "amount_too_small", "amount"},
		{"An amount must have at most eight digits.", hail("r", "amount", "100000000"), "amount_too_large", "amount"},
		{"A currency must be known.", hail("r", "currency", "xxx"), "<missing>", "currency"},
		{"A currency must be in lower case.", hail("r", "currency", "USD"), "<missing>", "currency"},
		{"A customer must exist.", hail("r", "customer", "cus_none"), "resource_missing", "customer"},
		{"A payment method must exist.", hail("r", "payment_method", "tok_visa"), "resource_missing", "payment_method"},
		{"A payment must have a method.", hail("r", "payment_method", ""), "parameter_missing", "payment_method"},
		{"A boolean must be true or false.", hail("r", "confirm", "1"), "<missing>", "confirm"},
		{"A boolean must not shout.", hail("r", "confirm", "TRUE"), "<missing>", "confirm"},
		{"A type must be known.", hail("r", "payment_method_types[0]", "cash"), "<missing>", "payment_method_types"},
		{"A list must not be a scalar.", hail("r", "payment_method_types", "card"), "<missing>", "payment_method_types"},
		{"An index must be a number.", hail("r", "payment_method_types[x]", "card"), "parameter_unknown", "payment_method_types[x]"},
		{"A parameter must be known.", hail("r", "amonut", "1"), "parameter_unknown", "amonut"},
		{"A nested parameter must be known.", hail("r", "automatic_payment_methods[x]", "1"), "parameter_unknown", "automatic_payment_methods[x]"},
		{"A parameter must not be a hash.", hail("r", "amount[x]", "1"), "parameter_unknown", "amount[x]"},
		{"A parameter must not be sent twice.", hail("r") + "&amount=5", "<missing>", "amount"},
		{"A parameter must not be empty.", hail("r", "description", "") + "&description=", "parameter_invalid_empty", "description"},
		{"A field must be expandable.", hail("r", "expand[]", "invoice"), "<missing>", "expand"},
		{"A list's prefix is for lists.", hail("r", "expand[]", "data.latest_charge"), "<missing>", "expand"},
		{"Metadata must be an object.", hail("r", "metadata", "x"), "<missing>", "metadata"},
		{"Metadata must not be nested.", hail("r", "metadata[a][b]", "x"), "<missing>", "metadata"},
		{"Metadata names have at most 40 characters.", hail("r", "metadata["+long[:41]+"]", "x"), "<missing>", "metadata"},
		{"Metadata values have at most 500 characters.", hail("r", "metadata[a]", long), "<missing>", "metadata[a]"},
		{"There are at most 50 metadata.", hail("r") + many(49), "<missing>", "metadata"},
		{"Only one of types and automatic methods.", hail("r", "automatic_payment_methods[enabled]", "true"), "<missing>", "<missing>"},
		{"Redirects need enabled methods.", hail("r", "automatic_payment_methods[allow_redirects]", "never"), "parameter_missing", "automatic_payment_methods[enabled]"},
		{"Manual capture is not there.", hail("r", "capture_method", "manual"), "<missing>", "capture_method"},
		{"A form must decode.", "amount=%zz", "<missing>", "<missing>"},
		{"A form must be UTF-8.", "amount=%ff", "<missing>", "<missing>"},
		{"A form must not hold NUL.", "description=%00", "<missing>", "<missing>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f.post(t, intents, "", test.form).want(t, 400, "error.type", "invalid_request_error", "error.code", test.code, "error.param", test.param)
		})
	}
	t.Run("Values at the limits are accepted.", func(t *testing.T) {
		t.Parallel()
		form := hail("r", "amount", "50", "metadata["+long[:40]+"]", long[:500]) + many(47)
		f.post(t, intents, "", form).want(t, 200, "metadata."+long[:40], long[:500], "amount", "50")
		f.post(t, intents, "", hail("r", "confirm", "True", "amount", "99999999", "metadata[empty]", "")+"&metadata[empty]=&metadata=").want(t, 200, "metadata.empty", "<missing>")
	})
	t.Cleanup(func() {
		if got := f.Charges()["r"]; got != 2 {
			t.Errorf("r has %d succeeded charges; what was refused must not charge", got)
		}
	})
}

// many returns n more metadata fields.
func many(n int) string {
	var form strings.Builder
	for i := range n {
		fmt.Fprintf(&form, "&metadata[m%d]=x", i)
	}
	return form.String()
}

func TestConfirmNeedsACardOrAReturnURL(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	without := func(changes ...string) string { return hail("r", append(changes, "payment_method_types[0]", "")...) }
	r := f.post(t, intents, "", without())
	r.want(t, 400, "error.type", "invalid_request_error")
	if !strings.Contains(r.get("error.message"), "return_url") {
		t.Errorf("the message is %q", r.get("error.message"))
	}
	f.post(t, intents, "", without("return_url", "https://example.com")).want(t, 200)
	f.post(t, intents, "", without("automatic_payment_methods[enabled]", "true")).want(t, 400)
	f.post(t, intents, "", without("automatic_payment_methods[enabled]", "true", "automatic_payment_methods[allow_redirects]", "never")).
		want(t, 200, "automatic_payment_methods.allow_redirects", "never")
	f.post(t, intents, "", hail("r", "payment_method_types[0]", "", "payment_method_types[]", "card")).want(t, 200)
	later := f.post(t, intents, "", without("confirm", "", "off_session", "")).get("id")
	f.post(t, intents+"/"+later+"/confirm", "", "").want(t, 400)
	f.post(t, intents+"/"+later+"/confirm", "", "return_url=https%3A%2F%2Fexample.com").want(t, 200)
}

func TestParametersOfAConfirmationNeedConfirm(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for _, name := range []string{"off_session", "error_on_requires_action", "return_url"} {
		form := hail("r", "confirm", "", "off_session", "", name, "true")
		f.post(t, intents, "", form).want(t, 400, "error.param", name)
		f.post(t, intents, "", form+"&confirm=false").want(t, 400, "error.param", name)
	}
	f.post(t, intents, "", hail("r", "confirm", "", "off_session", "")).want(t, 200, "status", "requires_confirmation", "latest_charge", "<nil>")
	f.post(t, intents, "", "amount=100&currency=usd").want(t, 200, "status", "requires_payment_method")
	f.wantCharges(t, "r", 0)
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for header, status := range map[string]int{
		"":                                       401,
		"Bearer":                                 401,
		"Bearer ":                                401,
		"Bearer sk_test_":                        401,
		"Bearer sk_test_a b":                     401,
		"Bearer pk_test_NotForAnswers":           401,
		"Bearer sk_live_NotForAnswers":           401,
		"sk_test_NotForAnswers":                  401,
		"Digest sk_test_NotForAnswers":           401,
		"Basic c2tfdGVzdF9Ob3RGb3JBbnN3ZXJz":     200, // sk_test_NotForAnswers
		"Basic c2tfdGVzdF9Ob3RGb3JBbnN3ZXJzOg==": 200, // sk_test_NotForAnswers:
		"Basic c2tfdGVzdF9Ob3RGb3JBbnN3ZXJzOnB3": 401, // sk_test_NotForAnswers:pw
		"Basic ?":                                401,
		"bearer sk_test_NotForAnswers":           200,
		"Bearer sk_test_51Hx_NotForAnswers":      200,
	} {
		r := f.read(t, "/v1/customers", "Authorization", header)
		if r.status != status {
			t.Errorf("%q is answered with %d, want %d", header, r.status, status)
		}
		if status == 401 {
			r.want(t, 401, "error.type", "invalid_request_error")
			r.wantHeader(t, "WWW-Authenticate", `Bearer realm="Stripe"`)
		}
		if strings.Contains(r.body, "NotForAnswers") {
			t.Errorf("%q: the answer shows the key: %s", header, r.body)
		}
	}
}

func TestUnknownRoutesAndObjectsAre404(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for path, method := range map[string]string{
		"/v1/nothing": http.MethodGet, "/": http.MethodGet, "/v1/payment_intents/": http.MethodGet,
		"/v1/payment_intents/pi_1/cancel": http.MethodGet, "/v1/payment_intents/a/b/confirm": http.MethodPost,
		"/v1/customers": http.MethodDelete, "/v1/charges": http.MethodPost,
	} {
		r, err := try(t, method, f.url+path, "", "")
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, 404, "error.type", "invalid_request_error")
		if !strings.HasPrefix(r.get("error.message"), "Unrecognized request URL ("+method+": "+path+")") {
			t.Errorf("the message is %q", r.get("error.message"))
		}
	}
	for _, path := range []string{"/v1/payment_intents/pi_none", "/v1/charges/ch_none", "/v1/refunds/re_none", "/v1/payment_methods/pm_none"} {
		f.read(t, path).want(t, 404, "error.code", "resource_missing")
	}
}

func TestTheFormOfARequestIsChecked(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.post(t, intents, "k", hail("r"), "Content-Type", "application/json").want(t, 400, "error.type", "invalid_request_error")
	f.post(t, intents, "k", hail("r"), "Content-Type", "").want(t, 400)
	f.post(t, intents, "k", hail("r"), "Stripe-Version", "2024-06-20").want(t, 400)
	f.post(t, intents, "k", hail("r")+"&description="+strings.Repeat("x", 1<<20)).want(t, 413)
	f.post(t, intents, "k", hail("r")+strings.Repeat("&a=b", 1000)).want(t, 400)
	f.wantCharges(t, "r", 0)
	f.post(t, intents, "k", hail("r"), "Stripe-Version", "2023-10-16", "Content-Type", "application/x-www-form-urlencoded; charset=utf-8").want(t, 200)
	f.post(t, intents+"?"+url.PathEscape("expand[]")+"=latest_charge", "", hail("r")).want(t, 200, "latest_charge.object", "charge")
}
