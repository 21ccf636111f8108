// A partner app: lets a merchant in, lists their latest orders, is told of the next ones. See README.md beside it.
import { createServer } from "node:http";
import * as oauth from "openid-client";
import { Webhook } from "standardwebhooks";

const { KAMI_URL, CLIENT_ID, WEBHOOK_SECRET, PORT = "4321" } = process.env;
const here = `http://127.0.0.1:${PORT}`;
const execute = KAMI_URL.startsWith("http:") ? [oauth.allowInsecureRequests] : []; // a Kami on this machine
const kami = await oauth.discovery(new URL(KAMI_URL), CLIENT_ID, {}, oauth.None(), { algorithm: "oauth2", execute });
const waiting = new Map(); // state → PKCE verifier of a sign-in that has begun

const ORDERS = `query ($id: ID!) {
  orders(merchantId: $id, first: 10) { nodes { number status total { amount currency } } }
}`;

async function login(request, response) {
  const code_challenge_method = "S256";
  const verifier = oauth.randomPKCECodeVerifier();
  const code_challenge = await oauth.calculatePKCECodeChallenge(verifier);
  const state = oauth.randomState();
  waiting.set(state, verifier);
  setTimeout(() => waiting.delete(state), 600_000).unref();
  const asked = { redirect_uri: `${here}/callback`, scope: "orders:read", state, code_challenge, code_challenge_method };
  // The cookie ties the answer to this browser: nobody can be signed in by a link.
  const cookie = `state=${state}; HttpOnly; SameSite=Lax; Path=/; Max-Age=600`;
  response.writeHead(303, { location: oauth.buildAuthorizationUrl(kami, asked).href, "set-cookie": cookie }).end();
}

async function callback(request, response) {
  const expectedState = /(?:^|; )state=([^;]+)/.exec(request.headers.cookie ?? "")?.[1] ?? "";
  const pkceCodeVerifier = waiting.get(expectedState);
  waiting.delete(expectedState);
  if (!pkceCodeVerifier) return response.writeHead(400).end("Start again at /login.");
  // Checks state and `iss`, sends the verifier. The refresh token in it is yours to keep for later.
  const tokens = await oauth.authorizationCodeGrant(kami, new URL(request.url, here), { pkceCodeVerifier, expectedState });
  const { merchant } = tokens.authorization_details[0];
  const body = JSON.stringify({ query: ORDERS, variables: { id: merchant } });
  const type = new Headers({ "content-type": "application/json" });
  const answer = await oauth.fetchProtectedResource(
    kami, tokens.access_token, new URL("/graphql", KAMI_URL), "POST", body, type);
  const { data } = await answer.json();
  const lines = data.orders.nodes.map((one) => `${one.number} ${one.status} ${one.total.amount} ${one.total.currency}`);
  response.writeHead(200, { "content-type": "text/plain; charset=utf-8" }).end([merchant, ...lines].join("\n"));
}

async function hook(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  let event;
  try {
    event = new Webhook(WEBHOOK_SECRET).verify(Buffer.concat(parts).toString(), request.headers);
  } catch {
    return response.writeHead(401).end();
  }
  // `data.merchantId` says whose, `data.grantId` under which consent; it may come twice: `webhook-id` tells.
  console.log(JSON.stringify(event));
  response.writeHead(204).end();
}

const pages = { "GET /login": login, "GET /callback": callback, "POST /hook": hook };
createServer(async (request, response) => {
  const page = pages[`${request.method} ${new URL(request.url, here).pathname}`];
  try {
    await (page ? page(request, response) : response.writeHead(404).end());
  } catch (error) {
    response.writeHead(502).end(String(error.error ?? error.code ?? "failed"));
  }
}).listen(Number(PORT), "127.0.0.1", () => console.log(`open ${here}/login`));
