"""Verifies callbacks of Rocket Rides. Python 3.9 or newer, standard library only: copy this file."""
import base64, hashlib, hmac, json, time


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
