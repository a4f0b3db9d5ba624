/**
 * Hails rides at Rocket Rides. It needs fetch and node:crypto, as Node.js 18, Deno and Bun have: copy this file.
 *
 *   const rides = new Rides("https://rides.example.com", process.env.API_KEY!);
 *   const key = newKey(); // one for each ride that a person wants; store it before the first call
 *   const ride = await rides.hail({ lat: 37.7749, lon: -122.4194 }, { lat: 37.8044, lon: -122.2712 }, key);
 *
 * If hail throws, or the program dies, call it again with the same key: the card is charged once. Take a new key only
 * after a Problem whose problem.safe_new_key is true.
 */
import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";

export interface Point { lat: number; lon: number }
export interface Ride {
  id: string;
  status: "pending" | "charged" | "declined" | "under_review" | "canceled";
  fare: { amount: number; currency: string };
  charge: { id: string; payment_intent: string } | null;
  idempotency_key: string;
}
export interface ProblemBody {
  status: number; code: string; detail: string; retryable: boolean; safe_new_key: boolean; request_id?: string;
  decline_code?: string; errors?: { pointer: string; detail: string }[];
}

export const newKey = (): string => randomUUID();

/** An answer that is an error (RFC 9457). */
export class Problem extends Error {
  problem: ProblemBody;
  constructor(problem: ProblemBody) {
    super(`${problem.status} ${problem.code}: ${problem.detail}`);
    this.problem = problem;
  }
}

export interface Options { retries: number; initial: number; longest: number; timeout: number } // in milliseconds

export class Rides {
  #url: string;
  #apiKey: string;
  #options: Options;
  constructor(url: string, apiKey: string, options: Partial<Options> = {}) {
    this.#url = url.replace(/\/$/, "");
    this.#apiKey = apiKey;
    this.#options = { retries: 8, initial: 1000, longest: 30_000, timeout: 60_000, ...options };
  }

  hail(origin: Point, target: Point, key: string): Promise<Ride> {
    return this.#call("POST", "/v1/rides", { origin, target }, key);
  }
  cancel(id: string, key: string): Promise<Ride> {
    return this.#call("POST", `/v1/rides/${encodeURIComponent(id)}/cancel`, {}, key);
  }
  get(id: string): Promise<Ride> {
    return this.#call("GET", `/v1/rides/${encodeURIComponent(id)}`);
  }

  /** Sends a request until it is answered, always with the same key and bytes. */
  async #call(method: string, path: string, content?: object, key?: string): Promise<Ride> {
    const { retries, initial, longest, timeout } = this.#options;
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#apiKey}`, "Content-Type": "application/json" };
    if (key) headers["Idempotency-Key"] = key;
    const body = content && JSON.stringify(content);
    for (let n = 1; ; n++) {
      const formula = Math.min(initial * 2 ** (n - 1), longest) * (0.5 + Math.random() / 2);
      let pause = Math.max(formula, initial); // random, so that clients don't come back together
      let failure: unknown;
      try {
        // A redirect would take the API key elsewhere.
        const answer = await fetch(this.#url + path, { method, headers, body, redirect: "manual", signal: AbortSignal.timeout(timeout) });
        if (answer.ok) return (await answer.json()) as Ride;
        const problem = await readProblem(answer);
        failure = new Problem(problem);
        const asked = answer.headers.get("Retry-After") ?? "";
        if (/^\d+$/.test(asked)) pause = Number(asked) * 1000;
        const decides = problem.code === "payment_under_review"; // a person does
        if (!problem.retryable || decides || pause > longest) n = Infinity;
      } catch (error) {
        failure = error; // no answer, or half of one
      }
      if (n > retries) throw failure;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** Returns the problem of an answer; a proxy's page says nothing about the ride. */
async function readProblem(answer: Response): Promise<ProblemBody> {
  if (answer.headers.get("Content-Type")?.startsWith("application/problem+json")) return (await answer.json()) as ProblemBody;
  await answer.body?.cancel();
  const retryable = [408, 429, 500, 502, 503, 504].includes(answer.status);
  return { status: answer.status, code: "", detail: "not the API's answer", safe_new_key: false, retryable };
}

/** Returns the callback in body, the text as it came, and throws unless it is genuine. While a secret is rotated, give both. */
export function verifyCallback(headers: Headers, body: string, ...secrets: string[]): { type: string; timestamp: string; data: Ride } {
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
