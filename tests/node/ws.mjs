// graphql-ws over one socket: a query, a mutation, a subscription to its end, one with an error, and a refused token.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, token] = process.argv.slice(2);
const run = (client, query, variables) =>
  new Promise((resolve) => {
    const seen = [];
    client.subscribe(
      { query, variables },
      {
        next: (value) => seen.push(value),
        error: (error) =>
          resolve({ seen, error: Array.isArray(error) ? error : { code: error.code, reason: error.reason } }),
        complete: () => resolve({ seen }),
      },
    );
  });
const open = (connectionParams) =>
  createClient({ url, webSocketImpl: WebSocket, connectionParams, retryAttempts: 0, lazy: true });

const client = open({ authorization: `Bearer ${token}` });
const out = {
  query: await run(client, "{ toy(no: 3) { title } secret }"),
  mutation: await run(client, "mutation ($i: MakeInput!) { make(input: $i) { __typename } }", { i: { title: "ws" } }),
  subscription: await run(client, "subscription { ticks(count: 3) { ... on TickEvent { sequence cursor toy { loud } } } }"),
  invalid: await run(client, "subscription { nothing }"),
  missing: await run(client, 'subscription { ticks(mode: "missing") { __typename } }'),
};
await client.dispose();
out.refused = await run(open({ authorization: "Bearer wrong" }), "{ toy { title } }");
console.log(JSON.stringify(out));
process.exit(0);
