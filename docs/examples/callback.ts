/** Verifies callbacks of Rocket Rides. It needs node:crypto, as Node.js, Deno and Bun have: copy this file. */
import { createHmac, timingSafeEqual } from "node:crypto";

/** Returns the callback in body, the text as it came, and throws unless it is genuine. While a secret is rotated, give both. */
export function verifyCallback(headers: Headers, body: string, ...secrets: string[]): { type: string; timestamp: string; data: { id: string; status: string } } {
  const [id, sent, signatures] = ["id", "timestamp", "signature"].map((name) => headers.get(`webhook-${name}`) ?? "");
  if (!(Math.abs(Date.now() / 1000 - Number(sent || NaN)) <= 300)) throw new Error("the callback is too old");
  for (const secret of secrets) {
    const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
    if (key.length < 24) throw new Error("a secret is whsec_ and the base64 of at least 24 bytes"); // anybody can sign with an empty one
    const want = Buffer.from("v1," + createHmac("sha256", key).update(`${id}.${sent}.${body}`).digest("base64"));
    for (const given of signatures.split(" ").map((signature) => Buffer.from(signature))) {
      if (given.length === want.length && timingSafeEqual(given, want)) return JSON.parse(body);
    }
  }
  throw new Error("the signature is not that of any secret");
}
