# Drives the fake with stripe-ruby. The first argument is its URL.
require "json"
require "stripe"

Stripe.api_base, Stripe.api_key, Stripe.api_version = ARGV[0], "sk_test_123", "2023-10-16"
Stripe.enable_telemetry = false
Stripe.max_network_retries = 3

def ride(name, **change)
  {
    amount: 2350, currency: "usd", customer: "cus_visa", payment_method: "pm_card_visa", confirm: true, off_session: true,
    payment_method_types: ["card"], metadata: { ride_id: name }
  }.merge(change)
end

def create(params, **options) = Stripe::PaymentIntent.create(params, options)

def refusal
  yield
  nil
rescue Stripe::StripeError => e
  error = e.error
  { class: e.class.name.split("::").last, code: e.code.to_s, decline_code: (error.respond_to?(:decline_code) ? error.decline_code : "").to_s,
    param: (e.respond_to?(:param) ? e.param : "").to_s }
end

result = { version: Stripe::VERSION }
result[:charged] = create(ride("retried")).status
Stripe.max_network_retries = 0
result[:declined] = refusal { create(ride("declined", payment_method: "pm_card_chargeCustomerFail")) }
paid = create(ride("reused"), idempotency_key: "reused")
result[:reused] = refusal { create(ride("reused", amount: 999), idempotency_key: "reused") }
result[:unauthenticated] = refusal { Stripe::PaymentIntent.retrieve(paid.id, { api_key: "wrong" }) }
result[:invalid] = refusal { create(ride("invalid", amount: 1.5)) }
result[:limited] = refusal { create(ride("limited"), idempotency_key: "limited") }
result[:broken] = refusal { create(ride("broken"), idempotency_key: "broken") }
result[:refunded] = Stripe::Refund.create({ payment_intent: paid.id }).status
result[:listed] = Stripe::PaymentIntent.list({ customer: "cus_visa", limit: 2 }).auto_paging_each.count { |intent| intent.id.start_with?("pi_") }
puts JSON.generate(result)
