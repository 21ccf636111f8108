// Partner apps with oauth4webapi and openid-client: every way to a token, and what is refused on the way.
import * as oauth from "oauth4webapi";
import * as openid from "openid-client";
import { person } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const { issuer, redirect, merchant } = given;
const insecure = { [oauth.allowInsecureRequests]: true };
const ORDERS = "query ($id: ID!) { orders(merchantId: $id, first: 1) { nodes { id } } }";
const browser = person(given);
const graphql = JSON.stringify({ query: ORDERS, variables: { id: merchant } });
const json = { "content-type": "application/json" };

const keyPair = async (jwk) => {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  return crypto.subtle.importKey("jwk", { ...jwk, key_ops: undefined }, algorithm, false, ["sign"]);
};
const failure = async (act) => {
  try {
    return await act();
  } catch (error) {
    return error.error ?? error.code ?? String(error);
  }
};
// The first call has no nonce; the refusal brings it, and the second succeeds.
const withNonce = async (act, dpop) => {
  try {
    return await act();
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    seen.nonces += 1;
    return act();
  }
};
const seen = { nonces: 0 };

const discovered = await oauth.discoveryRequest(new URL(issuer), { algorithm: "oauth2", ...insecure });
const as = await oauth.processDiscoveryResponse(new URL(issuer), discovered);

async function publicApp() {
  const client = { client_id: given.public.id };
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const start = new URL(as.authorization_endpoint);
  const asked = { client_id: client.client_id, redirect_uri: redirect, response_type: "code", state };
  const challenge = await oauth.calculatePKCECodeChallenge(verifier);
  start.search = new URLSearchParams({ ...asked, code_challenge: challenge, code_challenge_method: "S256" });
  const { back } = await browser(start);
  const params = oauth.validateAuthResponse(as, client, back, state); // checks `iss`
  const exchange = () =>
    oauth.authorizationCodeGrantRequest(as, client, oauth.None(), params, redirect, verifier, insecure);
  const first = await oauth.processAuthorizationCodeResponse(as, client, await exchange());
  const read = async (token) =>
    (await oauth.protectedResourceRequest(token, "POST", new URL(`${issuer}/graphql`), new Headers(json), graphql, insecure)).json();
  const renew = async (token) => {
    const response = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), token, insecure);
    return oauth.processRefreshTokenResponse(as, client, response);
  };
  const out = { scope: first.scope, orders: (await read(first.access_token)).data.orders.nodes };
  const second = await renew(first.refresh_token);
  const third = await renew(second.refresh_token);
  out.rotates = new Set([first, second, third].map((one) => one.refresh_token)).size;
  out.reused = await failure(() => renew(first.refresh_token));
  out.family = await failure(() => renew(third.refresh_token));
  start.searchParams.set("code_challenge_method", "plain");
  out.plain = (await browser(start)).back.searchParams.get("error");
  start.searchParams.set("redirect_uri", `${redirect}/evil`);
  out.redirect = (await browser(start)).status;
  return out;
}

async function finance() {
  const client = { client_id: given.finance.id };
  const auth = oauth.PrivateKeyJwt({ key: await keyPair(given.finance.key), kid: "k1" });
  const DPoP = oauth.DPoP(client, await oauth.generateKeyPair("ES256"));
  const options = { DPoP, ...insecure };
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const asked = {
    redirect_uri: redirect,
    response_type: "code",
    state,
    scope: "orders:read",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  };
  const push = async () => {
    const response = await oauth.pushedAuthorizationRequest(as, client, auth, asked, options);
    return oauth.processPushedAuthorizationResponse(as, client, response);
  };
  const pushed = await withNonce(push);
  const start = new URL(as.authorization_endpoint);
  start.search = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri });
  const { back } = await browser(start);
  const out = { twice: (await browser(start)).status };
  const params = oauth.validateAuthResponse(as, client, back, state);
  const first = await withNonce(async () => {
    const response = await oauth.authorizationCodeGrantRequest(as, client, auth, params, redirect, verifier, options);
    return oauth.processAuthorizationCodeResponse(as, client, response);
  });
  const read = async (how) =>
    (await oauth.protectedResourceRequest(first.access_token, "POST", new URL(`${issuer}/graphql`), new Headers(json), graphql, how)).json();
  out.type = first.token_type;
  out.orders = (await withNonce(() => read(options))).data.orders.nodes;
  const thief = oauth.DPoP(client, await oauth.generateKeyPair("ES256"));
  const steal = () => read({ DPoP: thief, ...insecure });
  out.stolen = await failure(() => withNonce(steal));
  const renew = async () => {
    const response = await oauth.refreshTokenGrantRequest(as, client, auth, first.refresh_token, options);
    return oauth.processRefreshTokenResponse(as, client, response);
  };
  out.renewed = [(await renew()).token_type, (await renew()).refresh_token ?? "same"];
  const introspect = async () => {
    const response = await oauth.introspectionRequest(as, client, auth, first.access_token, options);
    return (await oauth.processIntrospectionResponse(as, client, response)).active;
  };
  out.active = [await introspect()];
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, first.refresh_token, options));
  out.active.push(await introspect());
  out.revoked = await failure(renew);
  const own = await oauth.clientCredentialsGrantRequest(as, client, auth, {}, options);
  out.itself = (await oauth.processClientCredentialsResponse(as, client, own)).scope;
  return out;
}

async function withOpenid() {
  const execute = [openid.allowInsecureRequests];
  const auth = openid.PrivateKeyJwt({ key: await keyPair(given.finance.key), kid: "k1" });
  const config = await openid.discovery(new URL(issuer), given.finance.id, {}, auth, { algorithm: "oauth2", execute });
  const DPoP = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair("ES256"));
  const pkceCodeVerifier = openid.randomPKCECodeVerifier();
  const expectedState = openid.randomState();
  const asked = {
    redirect_uri: redirect,
    scope: "orders:read",
    state: expectedState,
    code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
  };
  const { back } = await browser(await openid.buildAuthorizationUrlWithPAR(config, asked, { DPoP }));
  const checks = { pkceCodeVerifier, expectedState };
  const first = await openid.authorizationCodeGrant(config, back, checks, undefined, { DPoP });
  const read = await openid.fetchProtectedResource(
    config, first.access_token, new URL(`${issuer}/graphql`), "POST", graphql, new Headers(json), { DPoP });
  const out = { orders: (await read.json()).data.orders.nodes };
  out.replayed = await failure(() => openid.authorizationCodeGrant(config, back, checks, undefined, { DPoP }));
  out.dead = await failure(() => openid.refreshTokenGrant(config, first.refresh_token, {}, { DPoP }));
  const own = await openid.clientCredentialsGrant(config, { scope: "orders:read" }, { DPoP });
  out.active = [(await openid.tokenIntrospection(config, own.access_token)).active];
  await openid.tokenRevocation(config, own.access_token);
  out.active.push((await openid.tokenIntrospection(config, own.access_token)).active);
  return out;
}

console.log(
  JSON.stringify({ public: await publicApp(), finance: await finance(), openid: await withOpenid(), nonces: seen.nonces }),
);
