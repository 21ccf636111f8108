// Connects GraphiQL to this server: queries and mutations by POST, subscriptions by graphql-transport-ws.
"use strict";

const WELCOME = `# Ctrl-Enter runs, Ctrl-Space completes.
# The book on the left has all fields.
#
# To be a buyer elsewhere, as a header:
#   {"X-Kami-From": "HK"}
# To be somebody, after signIn:
#   {"Authorization": "Bearer kami_s_…"}
#
# What moves money, stock or goods wants
# @idempotent(key: "a fresh UUID").

{
  shop(handle: "demo") {
    name
    products(first: 3) {
      nodes {
        title
        variants { id title price { amount currency } }
      }
    }
  }
}
`;

const kindOf = (document, name) => {
  const operations = (document?.definitions ?? []).filter((one) => one.kind === "OperationDefinition");
  const chosen = operations.find((one) => one.name?.value === name) ?? operations[0];
  return chosen?.operation ?? "query";
};

const post = async (asked, headers) => {
  const response = await fetch("/graphql" + location.search, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/graphql-response+json, application/json",
      ...headers,
    },
    body: JSON.stringify(asked),
  });
  return response.json();
};

// One socket per subscription: closing the tab of a query ends exactly that one.
async function* watch(asked, headers) {
  const address = new URL("/graphql" + location.search, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, "graphql-transport-ws");
  const waiting = [];
  let wake = () => {};
  const tell = (item) => {
    waiting.push(item);
    wake();
  };
  const authorization = headers?.Authorization ?? headers?.authorization;
  socket.onopen = () => {
    socket.send(JSON.stringify({ type: "connection_init", payload: authorization ? { authorization } : undefined }));
  };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "connection_ack") {
      socket.send(JSON.stringify({ id: "1", type: "subscribe", payload: asked }));
    } else if (message.type === "ping") {
      socket.send(JSON.stringify({ type: "pong" }));
    } else if (message.type === "next") {
      tell({ value: message.payload });
    } else if (message.type === "error") {
      tell({ value: { errors: message.payload }, done: true });
    } else if (message.type === "complete") {
      tell({ done: true });
    }
  };
  socket.onclose = (event) => {
    const text = `The socket closed: ${event.code} ${event.reason}`.trim();
    tell(event.code === 1000 ? { done: true } : { value: { errors: [{ message: text }] }, done: true });
  };
  try {
    for (;;) {
      while (waiting.length === 0) {
        await new Promise((resolve) => {
          wake = resolve;
        });
      }
      const { value, done } = waiting.shift();
      if (value !== undefined) yield value;
      if (done) return;
    }
  } finally {
    socket.onclose = null;
    socket.close(1000);
  }
}

const fetcher = (asked, options) =>
  kindOf(options?.documentAST, asked.operationName) === "subscription"
    ? watch(asked, options?.headers)
    : post(asked, options?.headers);

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, { fetcher, defaultQuery: WELCOME, shouldPersistHeaders: false }),
);
