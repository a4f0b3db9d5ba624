// Drives the fake with stripe-node. The first argument is its URL.
import Stripe from "stripe";

const url = new URL(process.argv[2]);
const open = (key, retries) =>
  new Stripe(key, {
    host: url.hostname, port: url.port, protocol: "http", apiVersion: "2023-10-16", maxNetworkRetries: retries, telemetry: false,
  });
const stripe = open("sk_test_123", 3);
const once = open("sk_test_123", 0);

const ride = (name, change) => ({
  amount: 2350, currency: "usd", customer: "cus_visa", payment_method: "pm_card_visa", confirm: true, off_session: true,
  payment_method_types: ["card"], metadata: { ride_id: name }, ...change,
});
const refusal = async (call) => {
  try {
    await call();
    return null;
  } catch (error) {
    return { class: error.constructor.name, code: error.code ?? "", decline_code: error.decline_code ?? "", param: error.param ?? "" };
  }
};

const result = { version: Stripe.PACKAGE_VERSION };
result.charged = (await stripe.paymentIntents.create(ride("retried"))).status;
result.declined = await refusal(() => once.paymentIntents.create(ride("declined", { payment_method: "pm_card_chargeCustomerFail" })));
const paid = await once.paymentIntents.create(ride("reused"), { idempotencyKey: "reused" });
result.reused = await refusal(() => once.paymentIntents.create(ride("reused", { amount: 999 }), { idempotencyKey: "reused" }));
result.unauthenticated = await refusal(() => open("wrong", 0).paymentIntents.retrieve(paid.id));
result.invalid = await refusal(() => once.paymentIntents.create(ride("invalid", { amount: 1.5 })));
result.limited = await refusal(() => once.paymentIntents.create(ride("limited"), { idempotencyKey: "limited" }));
result.broken = await refusal(() => once.paymentIntents.create(ride("broken"), { idempotencyKey: "broken" }));
result.refunded = (await stripe.refunds.create({ payment_intent: paid.id })).status;
result.listed = 0;
for await (const intent of stripe.paymentIntents.list({ customer: "cus_visa", limit: 2 })) result.listed += intent.id.startsWith("pi_");
console.log(JSON.stringify(result));
