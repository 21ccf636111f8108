// Follows an order by Server-Sent Events over fetch: resumes where it stopped, notices silence, comes back.

import { body, headers, now, refusal, setClock } from "./api.js";

const SILENCE_MS = 40_000; // the server says something every 15 s
const HIDDEN_MS = 120_000; // a page nobody looks at gives its connection back
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 20_000;
const FINAL = ["NOT_FOUND", "UNAUTHENTICATED", "FORBIDDEN", "BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"];

/**
 * Watch an order for ever. `told(event)` for every event, `gap()` when history was pruned and the order must be
 * read again, `state("live" | "lost" | "over", error)` for the lamp.
 */
export function follow({ id, key, after, told, gap, state }) {
  let cursor = after;
  let waitMs = WAIT_MIN_MS;
  let wake = () => {};
  let stop = null;
  let hiddenTimer;

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(() => stop?.abort(), HIDDEN_MS);
    else wake();
  });
  addEventListener("online", () => wake());
  addEventListener("pagehide", () => stop?.abort());
  addEventListener("pageshow", () => wake());

  async function once() {
    stop = new AbortController();
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE_MS);
    };
    heard();
    try {
      const response = await fetch("/graphql/stream", {
        method: "POST",
        body: body("watch", { id, key, after: cursor }),
        headers: headers({ Accept: "text/event-stream", ...(cursor && { "Last-Event-ID": cursor }) }),
        signal: stop.signal,
        cache: "no-store",
      });
      if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
      heard();
      state("live");
      for await (const event of events(response.body, heard)) {
        if (event.id) cursor = event.id;
        if (event.name === "next") take(JSON.parse(event.data));
        if (event.name === "complete") return;
      }
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  function take({ data, errors }) {
    if (errors?.length) throw refusal(errors[0]);
    waitMs = WAIT_MIN_MS;
    const frame = data.orderEvents;
    if (frame.__typename === "StreamHeartbeat") setClock(frame.at);
    else if (frame.__typename === "StreamGap") gap();
    else told(frame);
  }

  (async () => {
    for (;;) {
      try {
        await once();
      } catch (error) {
        if (FINAL.includes(error.code)) return state("over", error);
      }
      if (document.hidden) await new Promise((go) => (wake = go));
      else {
        state("lost");
        await new Promise((go) => {
          wake = go;
          setTimeout(go, waitMs * (0.75 + Math.random() / 2));
        });
      }
      waitMs = Math.min(waitMs * 2, WAIT_MAX_MS);
    }
  })();
}

/** The events of a response, as { name, data, id }; `heard()` for every byte, comments too. */
async function* events(stream, heard) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", data: [], id: null };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line.replace(/\r$/, ""));
      if (line === "" || line === "\r") {
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
        event = { name: "message", data: [], id: null };
      } else if (field === "event") event.name = text;
      else if (field === "data") event.data.push(text);
      else if (field === "id") event.id = text;
    }
  }
}

/** A countdown in an element; `over()` once when the time is up. Returns a function that stops it. */
export function countdown(iso, show, over) {
  const until = Date.parse(iso);
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - now()) / 1_000));
    const [hours, minutes, seconds] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
    const two = (part) => String(part).padStart(2, "0");
    show(hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${two(minutes)}:${two(seconds)}`, left);
    if (left === 0) {
      clearInterval(timer);
      over?.();
    }
  };
  const timer = setInterval(tick, 1_000);
  tick();
  return () => clearInterval(timer);
}
