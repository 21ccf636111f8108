// Asks GraphQL: documents by id, problems as one kind of error, and the server's clock.

import { facts } from "./facts.js";
import { language, t } from "./words.js";

const TRIES = 4;
const TIMEOUT_MS = 45_000;
let aheadMs = 0;

/** Why something was refused: `message` is for people, `code` for the program. */
export class Refusal extends Error {
  constructor({ code, message, path = [], retryable = false, problems = [], retryAfter = null, available = null, total = null }) {
    super(message);
    Object.assign(this, { code, path, retryable, problems, retryAfter, available, total });
  }
}

/** The server's clock in milliseconds: countdowns must not trust a wrong watch. */
export function now() {
  return Date.now() + aheadMs;
}

/** Take the server's time from an answer. */
export function setClock(text) {
  const theirs = Date.parse(text ?? "");
  if (theirs) aheadMs = Math.abs(theirs - Date.now()) > 2_000 ? theirs - Date.now() : 0;
}

/** A fresh key for a new intention. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // randomUUID needs https; plain http on another host does not have it.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The body of an operation, by the name of its document. */
export function body(name, variables) {
  return JSON.stringify({ documentId: facts.documents[name], variables: { language, ...variables } });
}

/** Headers of every request. `?from=HK` lets a developer look from elsewhere. */
export function headers(more) {
  const from = new URLSearchParams(location.search).get("from");
  return { "Content-Type": "application/json", ...(/^[A-Z]{2}$/.test(from ?? "") && { "X-Kami-From": from }), ...more };
}

/** The `data` of a query. Throws Refusal. */
export async function ask(name, variables) {
  let answer;
  try {
    const response = await fetch("/graphql", {
      method: "POST",
      body: body(name, variables),
      headers: headers({ Accept: "application/graphql-response+json, application/json" }),
      signal: AbortSignal.timeout?.(TIMEOUT_MS),
    });
    setClock(response.headers.get("date"));
    answer = await response.json();
  } catch {
    throw new Refusal({ code: "OFFLINE", message: t("error.offline"), retryable: true });
  }
  if (answer.errors?.length) throw refusal(answer.errors[0]);
  return answer.data;
}

/** An error of a GraphQL answer as a Refusal. */
export function refusal(error) {
  const { code, retryAfter } = error.extensions ?? {};
  if (code === "PERSISTED_QUERY_NOT_FOUND") renew();
  return new Refusal({ code, message: error.message, retryAfter, retryable: code === "THROTTLED" || code === "UNAVAILABLE" });
}

/**
 * A mutation whose document names its field `result`. The same key is sent again when the answer was lost, so a
 * bad line never buys twice. Throws Refusal for problems too.
 */
export async function act(name, variables, key) {
  for (let tried = 1; ; tried += 1) {
    try {
      const { result } = await ask(name, { ...variables, key });
      if (!result.code) return result;
      throw new Refusal(result.problems?.length ? { ...result, message: result.problems[0].message } : result);
    } catch (error) {
      const isLost = ["OFFLINE", "IDEMPOTENCY_IN_PROGRESS", "THROTTLED"].includes(error.code);
      if (!isLost || tried >= TRIES || error.retryAfter > 5) throw error;
      await new Promise((go) => setTimeout(go, (error.retryAfter ?? tried) * 1_000));
    }
  }
}

/** The page is older than the server: load it again, once. */
function renew() {
  const mark = "kami.renewed";
  if (sessionStorage.getItem(mark) === facts.version) return;
  sessionStorage.setItem(mark, facts.version);
  location.reload();
}
