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
import { randomUUID } from "node:crypto";
export interface Point { lat: number; lon: number }
export interface Ride {
  id: string; status: "pending" | "charged" | "declined" | "under_review" | "canceled"; idempotency_key: string;
  fare: { amount: number; currency: string }; charge: { id: string; payment_intent: string } | null;
}
export interface ProblemBody {
  status: number; code: string; detail: string; retryable: boolean; safe_new_key: boolean; request_id?: string;
  decline_code?: string; errors?: { pointer: string; detail: string }[];
}
export const newKey = (): string => randomUUID();
/** An answer that is an error (RFC 9457). */
export class Problem extends Error {
  problem: ProblemBody;
  constructor(problem: ProblemBody) { super(`${problem.status} ${problem.code}: ${problem.detail}`); this.problem = problem; }
}
const defaults = { retries: 8, initial: 1000, longest: 30_000, timeout: 60_000 }; // in milliseconds

export class Rides {
  #send: (path: string, init: RequestInit) => Promise<Response>; // a log of the object doesn't show the API key
  #options: typeof defaults;
  constructor(url: string, apiKey: string, options: Partial<typeof defaults> = {}) {
    this.#options = { ...defaults, ...options };
    const authorized = { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" };
    this.#send = (path, init) => fetch(url.replace(/\/$/, "") + path, { ...init, headers: { ...authorized, ...init.headers }, redirect: "manual" }); // a redirect would take the API key elsewhere
  }
  hail(origin: Point, target: Point, key: string, callback_url?: string): Promise<Ride> { return this.#call("POST", "", key, { origin, target, callback_url }); }
  cancel(id: string, key: string): Promise<Ride> { return this.#call("POST", `/${encodeURIComponent(id)}/cancel`, key, {}); }
  get(id: string): Promise<Ride> { return this.#call("GET", `/${encodeURIComponent(id)}`); }
  /** Sends a request until it is answered, always with the same key and bytes. */
  async #call(method: string, path: string, key?: string, content?: object): Promise<Ride> {
    const { retries, initial, longest, timeout } = this.#options;
    const body = content && JSON.stringify(content);
    for (let n = 0, failure: unknown; ; n++) {
      let pause = Math.max(Math.min(initial * 2 ** n, longest) * (0.5 + Math.random() / 2), initial); // the random factor parts clients that failed together, after the second failure
      try {
        const answer = await this.#send("/v1/rides" + path, { method, body, headers: key ? { "Idempotency-Key": key } : {}, signal: AbortSignal.timeout(timeout) });
        if (answer.ok) return (await answer.json()) as Ride;
        const ours = answer.headers.get("Content-Type")?.startsWith("application/problem+json"); // a proxy's page says nothing about the ride
        const text = await answer.text(), retryable = [408, 429, 500, 502, 503, 504].includes(answer.status);
        const problem = ours ? JSON.parse(text) as ProblemBody : { status: answer.status, code: "", detail: "not the API's answer", safe_new_key: false, retryable };
        failure = new Problem(problem);
        pause = Number(answer.headers.get("Retry-After")?.match(/^\d+$/)?.[0] ?? pause / 1000) * 1000;
        if (!problem.retryable || problem.code === "payment_under_review" || pause > longest) n = retries; // a person decides, or it takes too long
      } catch (error) { failure = error; } // no answer, or half of one
      if (n >= retries) throw failure;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
