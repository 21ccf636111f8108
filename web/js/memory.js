// What this tab remembers: access keys and what was shown of an order. It ends with the tab.

const ORDER = "kami.order.";
const CART = "kami.cart.";
const DEVICE = "kami.device";

/** The order this page is about. */
export const orderId = decodeURIComponent(location.pathname.split("/")[2] ?? "");

/**
 * The key of this page's order: behind `#`, or kept from before a trip to the payment provider, which sends people
 * back without it. Null when neither is there.
 */
export function accessKey() {
  return readKey(location.hash) ?? recall(orderId).key ?? null;
}

/** A key out of `#k=…`, `#accessKey=…`, a whole link, or the key alone; null when it is none. */
export function readKey(text) {
  const trimmed = text.trim();
  const behind = new URLSearchParams(trimmed.includes("#") ? trimmed.slice(trimmed.indexOf("#") + 1) : "");
  const found = behind.get("k") ?? behind.get("accessKey") ?? trimmed;
  return /^[0-9a-z]{16,64}$/i.test(found) ? found : null;
}

/** The address of an order's page with its key, which stays behind `#`; without one for a buyer who is signed in. */
export function link(page, id, key) {
  return `/${page}/${encodeURIComponent(id)}${key ? `#k=${encodeURIComponent(key)}` : ""}`;
}

/** What is remembered of an order; an empty object when nothing is. */
export function recall(id) {
  return get(ORDER + id) ?? {};
}

/** Remember more of an order. */
export function remember(id, more) {
  set(ORDER + id, { ...recall(id), ...more });
}

/** The cart of a shop in this tab: variant id → quantity, and the e-mail address. */
export function cart(shop) {
  return get(CART + shop) ?? {};
}

/** Keep the cart of a shop. */
export function keepCart(shop, content) {
  set(CART + shop, content);
}

function get(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

function set(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Storage is off: the address still holds the key.
  }
}

/** The buyer's choice that outlives the tab, e.g. the currency. */
export function choice(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch {
    // Private mode.
  }
  return value ?? null;
}

/** Hints for ranking and risk; never authority. */
export function signals(newKey) {
  const device = choice(DEVICE) ?? choice(DEVICE, newKey());
  const wallets = window.ApplePaySession ? ["apple_pay"] : [];
  return { platform: platform(), wallets, deviceId: device, timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone };
}

/** Where the page is held. */
export function platform() {
  const agent = navigator.userAgent;
  if (/android/i.test(agent)) return "ANDROID";
  return /iphone|ipad|ipod/i.test(agent) ? "IOS" : "WEB";
}
