# Drives the fake with stripe-python. The first argument is its URL.
import json
import sys

import stripe

stripe.api_base, stripe.api_key, stripe.api_version = sys.argv[1], "sk_test_123", "2023-10-16"
stripe.enable_telemetry, stripe.max_network_retries = False, 3


def ride(name, **change):
    return {
        "amount": 2350, "currency": "usd", "customer": "cus_visa", "payment_method": "pm_card_visa", "confirm": True,
        "off_session": True, "payment_method_types": ["card"], "metadata": {"ride_id": name}, **change,
    }


def refusal(call):
    try:
        call()
    except Exception as e:
        # Not every class of older versions has attributes for what the answer says.
        said = (getattr(e, "json_body", None) or {}).get("error", {})
        return {"class": type(e).__name__, **{name: said.get(name) or "" for name in ("code", "decline_code", "param")}}


create = stripe.PaymentIntent.create
result = {"version": getattr(stripe, "VERSION", None) or stripe.version.VERSION}
result["charged"] = create(**ride("retried")).status
stripe.max_network_retries = 0
result["declined"] = refusal(lambda: create(**ride("declined", payment_method="pm_card_chargeCustomerFail")))
paid = create(**ride("reused"), idempotency_key="reused")
result["reused"] = refusal(lambda: create(**ride("reused", amount=999), idempotency_key="reused"))
result["unauthenticated"] = refusal(lambda: stripe.PaymentIntent.retrieve(paid.id, api_key="wrong"))
result["invalid"] = refusal(lambda: create(**ride("invalid", amount=1.5)))
result["limited"] = refusal(lambda: create(**ride("limited"), idempotency_key="limited"))
result["broken"] = refusal(lambda: create(**ride("broken"), idempotency_key="broken"))
result["refunded"] = stripe.Refund.create(payment_intent=paid.id).status
intents = stripe.PaymentIntent.list(customer="cus_visa", limit=2).auto_paging_iter()
result["listed"] = sum(intent.id.startswith("pi_") for intent in intents)
print(json.dumps(result))
