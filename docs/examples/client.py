"""Hails rides at Rocket Rides. Python 3.9 or newer, standard library only: copy this file.

    rides = Rides("https://rides.example.com", os.environ["API_KEY"])
    key = new_key()  # one for each ride that a person wants; store it before the first call
    ride = rides.hail({"lat": 37.7749, "lon": -122.4194}, {"lat": 37.8044, "lon": -122.2712}, key)

If hail raises, or the program dies, call it again with the same key: the card is charged once. Take a new key only after
a Problem whose problem["safe_new_key"] is true.
"""
import http.client, json, random, time, urllib.request, uuid
def new_key():
    return str(uuid.uuid4())

class Problem(Exception):
    """An answer that is an error (RFC 9457). problem has code, detail, retryable, safe_new_key, request_id and more."""
    def __init__(self, problem):
        super().__init__("{status} {code}: {detail}".format(**problem))
        self.problem = problem

class AnswersAsTheyAre(urllib.request.HTTPErrorProcessor):  # errors too; and no redirect takes the API key elsewhere
    http_response = https_response = lambda self, request, answer: answer

class Rides:
    def __init__(self, url, api_key, retries=8, initial=1.0, longest=30.0, timeout=60.0):
        self.url, self.api_key, self.timeout = url.rstrip("/"), api_key, timeout
        self.retries, self.initial, self.longest = retries, initial, longest
        self.opener = urllib.request.build_opener(AnswersAsTheyAre)

    def hail(self, origin, target, key, callback_url=None):
        body = {"origin": origin, "target": target}  # with null for no callback_url it would be another request
        return self.call("POST", "", key, body if callback_url is None else {**body, "callback_url": callback_url})
    def cancel(self, ride_id, key):
        return self.call("POST", f"/{ride_id}/cancel", key, {})
    def get(self, ride_id):
        return self.call("GET", f"/{ride_id}")
    def call(self, method, path, key=None, body=None):
        """Sends a request until it is answered, always with the same key and bytes."""
        headers = {"Authorization": "Bearer " + self.api_key, "Content-Type": "application/json", "Idempotency-Key": key}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + "/v1/rides" + path, data, {k: v for k, v in headers.items() if v}, method=method)
        for n in range(self.retries + 1):
            pause = min(self.initial * 2 ** n, self.longest) * random.uniform(0.5, 1)  # parts clients that failed together
            pause, again = max(pause, self.initial), True  # so it parts them after the second failure
            try:
                with self.opener.open(request, timeout=self.timeout) as answer:
                    content = answer.read(1 << 20)
                if answer.status < 300:
                    return json.loads(content)
                problem = {"status": answer.status, "code": "", "detail": "not the API's answer", "safe_new_key": False,
                           "retryable": answer.status in (408, 429, 500, 502, 503, 504)}
                if answer.headers.get_content_type() == "application/problem+json":  # a proxy's page says nothing of the ride
                    problem = json.loads(content)
                failure, asked = Problem(problem), answer.headers.get("Retry-After", "")
                pause = int(asked) if asked.isdigit() else pause
                again = problem["retryable"] and problem["code"] != "payment_under_review"  # a person decides
            except (OSError, http.client.HTTPException, ValueError) as error:  # no answer, or half of one
                failure = error
            if n == self.retries or not again or pause > self.longest:
                raise failure
            time.sleep(pause)
