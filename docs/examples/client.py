"""Hails rides at Rocket Rides. Python 3.9 or newer, standard library only: copy this file.

    rides = Rides("https://rides.example.com", os.environ["API_KEY"])
    key = new_key()  # one for each ride that a person wants; store it before the first call
    ride = rides.hail({"lat": 37.7749, "lon": -122.4194}, {"lat": 37.8044, "lon": -122.2712}, key)

If hail raises, or the program dies, call it again with the same key: the card is charged once. Take a new key only after
a Problem whose problem["safe_new_key"] is true.
"""
import base64, hashlib, hmac, http.client, json, random, time, urllib.error, urllib.request, uuid


def new_key():
    return str(uuid.uuid4())


class Problem(Exception):
    """An answer that is an error (RFC 9457). problem has code, detail, retryable, safe_new_key, request_id and more."""

    def __init__(self, problem):
        super().__init__(f"{problem['status']} {problem['code']}: {problem['detail']}")
        self.problem = problem


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):  # it would take the API key elsewhere
        return None


class Rides:
    def __init__(self, url, api_key, retries=8, initial=1.0, longest=30.0, timeout=60.0):
        self.url, self.api_key, self.timeout = url.rstrip("/"), api_key, timeout
        self.retries, self.initial, self.longest = retries, initial, longest
        self.opener = urllib.request.build_opener(NoRedirects)

    def hail(self, origin, target, key):
        return self.call("POST", "/v1/rides", {"origin": origin, "target": target}, key)

    def cancel(self, ride_id, key):
        return self.call("POST", f"/v1/rides/{ride_id}/cancel", {}, key)

    def get(self, ride_id):
        return self.call("GET", f"/v1/rides/{ride_id}")

    def call(self, method, path, body=None, key=None):
        """Sends a request until it is answered, always with the same key and bytes."""
        headers = {"Authorization": "Bearer " + self.api_key, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        for n in range(1, self.retries + 2):
            pause = min(self.initial * 2 ** (n - 1), self.longest)
            pause = max(pause * random.uniform(0.5, 1), self.initial)  # so that clients don't come back together
            try:
                request = urllib.request.Request(self.url + path, data, headers, method=method)
                with self.opener.open(request, timeout=self.timeout) as answer:
                    return json.loads(answer.read(1 << 20))
            except urllib.error.HTTPError as error:
                with error:
                    failure = Problem(read_problem(error))
                asked = error.headers.get("Retry-After", "")
                pause = int(asked) if asked.isdigit() else pause
                decides = failure.problem["code"] == "payment_under_review"  # a person does
                if not failure.problem["retryable"] or decides or pause > self.longest:
                    raise failure from None
            except (OSError, http.client.HTTPException, ValueError) as error:  # no answer, or half of one
                failure = error
            if n <= self.retries:
                time.sleep(pause)
        raise failure


def read_problem(error):
    """Returns the problem of an answer; a proxy's page says nothing about the ride."""
    if error.headers.get_content_type() == "application/problem+json":
        try:
            return json.loads(error.read(1 << 20))
        except (OSError, http.client.HTTPException, ValueError):
            pass
    return {"status": error.code, "code": "", "detail": "not the API's answer", "safe_new_key": False,
            "retryable": error.code in (408, 429, 500, 502, 503, 504)}


def verify_callback(headers, body, *secrets):
    """Returns the callback (type, timestamp, data) in body, which is bytes; raises ValueError unless it is genuine.

    headers is a mapping that ignores case, as most frameworks have. While a secret is rotated, give both.
    """
    message_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if abs(time.time() - int(sent)) > 300:
        raise ValueError("the callback is too old")
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        if len(key) < 24:  # anybody can sign with an empty one
            raise ValueError("a secret is whsec_ and the base64 of at least 24 bytes")
        digest = hmac.new(key, f"{message_id}.{sent}.".encode() + body, hashlib.sha256).digest()
        want = b"v1," + base64.b64encode(digest)
        for signature in headers.get("webhook-signature", "").split():
            if hmac.compare_digest(signature.encode(), want):
                return json.loads(body)
    raise ValueError("the signature is not that of any secret")
