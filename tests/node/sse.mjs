// graphql-sse in distinct connections mode: a query, a subscription, a refusal, and a resumed stream read by hand.
import { createClient } from "graphql-sse";

const [url] = process.argv.slice(2);
const client = createClient({ url, retryAttempts: 0 });
const run = (query, variables) =>
  new Promise((resolve) => {
    const seen = [];
    client.subscribe(
      { query, variables },
      { next: (value) => seen.push(value), error: (error) => resolve({ seen, error: String(error) }), complete: () => resolve({ seen }) },
    );
  });

const TICKS = "subscription ($after: String) { ticks(count: 3, after: $after) { ... on TickEvent { sequence cursor } } }";
const raw = async (headers) => {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream", ...headers },
    body: JSON.stringify({ query: TICKS }),
  });
  return response.text();
};

const out = {
  query: await run("{ toy(no: 3) { title } }"),
  subscription: await run(TICKS),
  invalid: await run("subscription { nothing }"),
  bug: await run('subscription { ticks(count: 3, mode: "bug") { ... on TickEvent { sequence } } }'),
};
const first = await raw({});
const ids = [...first.matchAll(/^id: (.*)$/gm)].map((found) => found[1]);
out.ids = ids;
out.resumed = await raw({ "last-event-id": ids[1] });
client.dispose();
console.log(JSON.stringify(out));
process.exit(0);
