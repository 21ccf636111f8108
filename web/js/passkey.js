// Passkeys on the pages of accounts: signing in, proving one, adding one. Everything else there works without a script.

const ids = JSON.parse(document.getElementById("documents").textContent);

/** Run a registered document; its field `result`. Throws an Error in the reader's words. */
async function ask(name, variables) {
  const response = await fetch("/graphql", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang },
    body: JSON.stringify({ documentId: ids[name], variables }),
  });
  const { data, errors } = await response.json();
  if (errors?.[0]?.extensions.code === "MFA_REQUIRED") location.assign(`/account/proof?to=${location.pathname}`);
  if (errors?.length) throw new Error(errors[0].message);
  const { result } = data;
  if (result.code) throw new Error(result.problems?.[0]?.message ?? result.message);
  return result;
}

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const named = (list) => list?.map((one) => ({ ...one, id: bytes(one.id) }));

/** The browser's authenticator asked for a proof; its answer as JSON. */
async function prove(variables = {}) {
  const { options } = await ask("start-passkey", variables);
  const publicKey = { ...options, challenge: bytes(options.challenge), allowCredentials: named(options.allowCredentials) };
  const { id, rawId, type, response } = await navigator.credentials.get({ publicKey });
  return { id, rawId: text(rawId), type, clientExtensionResults: {}, response: {
    authenticatorData: text(response.authenticatorData), clientDataJSON: text(response.clientDataJSON),
    signature: text(response.signature), userHandle: response.userHandle ? text(response.userHandle) : null,
  } };
}

/** A new passkey made; its recovery codes when it is the first factor. */
async function add({ name, password }) {
  const { options } = await ask("passkey-start", { input: { password: password.value } });
  const publicKey = { ...options, challenge: bytes(options.challenge), user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: named(options.excludeCredentials) };
  const { id, rawId, type, response } = await navigator.credentials.create({ publicKey });
  const credential = { id, rawId: text(rawId), type, clientExtensionResults: {}, response: {
    attestationObject: text(response.attestationObject), clientDataJSON: text(response.clientDataJSON),
    transports: response.getTransports?.() ?? [],
  } };
  return (await ask("passkey-finish", { input: { credential, name: name.value } })).recoveryCodes;
}

const acts = {
  "sign-in": async () => ask("passkey-sign-in", { input: { passkey: await prove(), cookie: true } }),
  complete: async ({ token }) => ask("complete", { input: { signInToken: token, passkey: await prove({ signInToken: token }), cookie: true } }),
  verify: async () => ask("passkey-verify", { passkey: await prove() }),
};

/** The codes that a first passkey brings, shown this once. */
function show(codes, { codes: title, why, on, to }) {
  const h = (tag, words, props = {}) => Object.assign(document.createElement(tag), { textContent: words, ...props });
  const list = h("ul", "", { className: "codes" });
  for (const code of codes) list.append(h("li", "")), list.lastChild.append(h("code", code));
  const card = h("div", "", { className: "card center narrow" });
  card.append(h("h1", title), h("p", why, { className: "soft" }), list, h("a", on, { className: "button go", href: to }));
  document.getElementById("main").replaceChildren(card);
}

for (const place of document.querySelectorAll(".passkey")) {
  if (!window.PublicKeyCredential) break;
  place.hidden = false;
  const button = place.querySelector("button");
  const notice = place.querySelector(".notice");
  const run = async (event) => {
    event.preventDefault();
    notice.hidden = true;
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    try {
      const codes = place.dataset.act === "add" ? await add(place.elements) : await acts[place.dataset.act](place.dataset);
      if (Array.isArray(codes) && codes.length) return show(codes, place.dataset);
      location.assign(place.dataset.to);
    } catch (error) {
      // The browser's own words are in its own language and about nothing a person could mend.
      notice.textContent = error instanceof DOMException ? place.dataset.failed : error.message;
      notice.hidden = false;
    }
    button.disabled = false;
    button.removeAttribute("aria-busy");
  };
  if (place.tagName === "FORM") place.addEventListener("submit", run);
  else button.addEventListener("click", run);
}
