// The storefront: choose, name an e-mail address, buy.

import { Refusal, act, ask, newKey } from "./api.js";
import { h, icon, plain } from "./dom.js";
import { busy, main, notice, select, start, top, failure } from "./frame.js";
import { cart, choice, keepCart, link, remember, signals } from "./memory.js";
import { isZero, plus, times } from "./money.js";
import { currencyName, language, money, number, t } from "./words.js";

const PAGE = 24;
const FEW = 10;
const SHORT = 4;
const ENDLESS = 1_000_000; // what never runs out, by contract
const SEARCH_FROM = 7;
const CURRENCY = "kami.currency";
// Prices come in the currency of a country; any country of the currency will do.
const COUNTRY_OF = { USD: "US", EUR: "DE", GBP: "GB", CNY: "CN", HKD: "HK", SGD: "SG", JPY: "JP", KRW: "KR", AUD: "AU",
  CAD: "CA", INR: "IN", THB: "TH", BRL: "BR", MXN: "MX" };

const handle = decodeURIComponent(location.pathname.split("/")[2]);
const known = new Map(); // variant id → { variant, product, show }
const hues = new Map();
const kept = cart(handle);
let chosen = new Map(Object.entries(kept.lines ?? {}));
let wanted = choice(CURRENCY);
let shopName = "";
let cursor = null;
let search = "";
let intention = null; // { of, key }: the same cart asked for again is the same purchase

const list = h("div", { class: "goods" });
const more = h("button", { type: "button", class: "quiet more", hidden: true, onclick: () => load(false) });
const bill = h("ul", { class: "bill" });
const total = h("output", { class: "total", "aria-live": "polite" });
const problem = notice();
const email = h("input", { id: "email", type: "email", name: "email", autocomplete: "email", inputmode: "email",
  required: true, maxlength: 254, value: kept.email ?? "" });
const wrong = h("small", { id: "email-wrong", class: "wrong", hidden: true });
const buy = h("button", { class: "go" });
const form = h("form", { class: "till card", novalidate: true });
let home = null;
let searching;

await start(async () => {
  main.className = "wide shopping";
  top(main.dataset.title, null);
  build();
  await load(true);
});

function build() {
  buy.textContent = t("shop.buy");
  more.textContent = t("shop.more");
  email.placeholder = t("shop.email.example");
  email.setAttribute("aria-describedby", "email-wrong email-why");
  form.append(
    h("h2", null, t("shop.yours")), bill,
    h("div", { class: "sum" }, h("span", null, t("shop.total")), total),
    h("div", { class: "pay" },
      h("div", { class: "field" }, h("label", { for: "email" }, t("shop.email")), email, wrong,
        h("small", { id: "email-why", class: "soft" }, t("shop.email.why"))),
      problem.element, buy));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    checkout();
  });
  email.addEventListener("input", () => {
    wrong.hidden = true;
    email.removeAttribute("aria-invalid");
    keep();
  });
  skeleton();
  searching = searchField();
  main.replaceChildren(h("div", { class: "shelf" }, searching, list, more), form);
  draw();
}

function skeleton() {
  list.replaceChildren(...Array.from({ length: 6 }, () =>
    h("article", { class: "card product waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i"), h("i"))));
}

/** Load products: from the start, or the next ones. */
async function load(fresh) {
  const variables = { handle, first: PAGE, after: fresh ? null : cursor, search: search || null, country: COUNTRY_OF[wanted] ?? null };
  const done = busy(more);
  list.setAttribute("aria-busy", "true");
  let data;
  try {
    data = await ask("shop", variables);
  } catch (error) {
    if (fresh) list.replaceChildren(failure(error, () => (skeleton(), load(true))));
    else problem.say(error.message);
    return;
  } finally {
    done();
    list.removeAttribute("aria-busy");
  }
  if (data.shop === null) throw new Refusal({ code: "NOT_FOUND", message: t("missing.shop") });
  if (search !== (variables.search ?? "")) return; // an answer to an earlier question
  head(data);
  const { nodes, pageInfo } = data.shop.products;
  cursor = pageInfo.endCursor;
  more.hidden = !pageInfo.hasNextPage;
  const cards = nodes.map(card);
  if (fresh) list.replaceChildren(...(cards.length ? cards : [h("p", { class: "soft nothing" }, t(search ? "shop.notFound" : "shop.empty"))]));
  else list.append(...cards);
  draw();
}

function head({ shop, market }) {
  if (shopName) return;
  shopName = shop.name;
  document.title = shop.name;
  home = market.currency;
  const codes = [...new Set([home, ...Object.keys(COUNTRY_OF)])];
  const names = codes.filter((code) => code in COUNTRY_OF).map((code) => [code, `${code} – ${currencyName(code)}`]);
  const currency = select(t("currency"), names, wanted ?? home, (code) => {
    wanted = choice(CURRENCY, code);
    load(true);
  });
  currency.classList.add("narrowly");
  top(plain(shop.name), null, currency);
  if (shop.products.nodes.length < SEARCH_FROM && !search) searching.remove();
}

function searchField() {
  let timer;
  const field = h("input", { type: "search", placeholder: t("shop.search"), "aria-label": t("shop.search"), maxlength: 100 });
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      search = field.value.trim();
      load(true);
    }, 250);
  });
  return h("div", { class: "search" }, icon("search"), field);
}

function card(product) {
  const title = plain(product.title);
  const art = h("div", { class: "art", "aria-hidden": "true" }, h("span", null, [...title.replace(/[《「"]/g, "")][0] ?? "·"));
  art.style.setProperty("--hue", hue(product.id));
  const id = `p-${product.id}`;
  return h("article", { class: "card product", "aria-labelledby": id }, art,
    h("div", { class: "what" }, h("h2", { id, dir: "auto" }, title), h("p", { class: "soft", dir: "auto" }, plain(product.description)),
      variants(product)));
}

/** The first few variants; the others are one tap away. */
function variants(product) {
  const rows = product.variants.map((variant) => row(variant, product));
  const shown = product.variants.length > SHORT + 1 ? SHORT : rows.length;
  const hidden = rows.slice(shown).filter((_, place) => !chosen.has(product.variants[shown + place].id));
  hidden.forEach((one) => (one.hidden = true));
  const list = h("ul", { class: "variants" }, rows);
  if (!hidden.length) return list;
  const button = h("button", { type: "button", class: "others" }, t("shop.others", { count: hidden.length }));
  button.addEventListener("click", () => {
    hidden.forEach((one) => (one.hidden = false));
    button.remove();
    hidden[0].querySelector(".round:last-child").focus({ preventScroll: true });
  });
  return [list, button];
}

/** A colour per product, far from its neighbours': steps of the golden angle. */
function hue(id) {
  if (!hues.has(id)) hues.set(id, (28 + hues.size * 137) % 360);
  return hues.get(id);
}

function row(variant, product) {
  const name = [plain(product.title), plain(variant.title)].filter(Boolean).join(", ");
  const count = h("input", { class: "count", type: "text", inputmode: "numeric", maxlength: 6, "aria-label": t("shop.quantity", { name }) });
  const less = h("button", { type: "button", class: "round", "aria-label": t("shop.less", { name }) }, icon("minus"));
  const plusOne = h("button", { type: "button", class: "round", "aria-label": t("shop.add", { name }) }, icon("plus"));
  const most = Math.min(variant.maxQuantity, variant.available);
  const price = h("span", { class: "price" });
  const isOut = most < variant.minQuantity;
  const step = h("div", { class: "step" }, less, count, plusOne);
  const element = h("li", { class: isOut ? "variant out" : "variant" },
    h("div", { class: "name" }, h("span", { dir: "auto" }, plain(variant.title)),
      h("span", { class: "terms" }, price, h("small", { class: "soft" }, stock(variant, isOut))), tiers(variant)),
    step);
  const show = () => {
    const quantity = chosen.get(variant.id) ?? 0;
    count.value = String(quantity);
    step.classList.toggle("none", quantity === 0);
    less.disabled = count.disabled = quantity === 0;
    plusOne.disabled = isOut || quantity >= most;
    price.textContent = money(unit(variant, quantity));
    element.classList.toggle("chosen", quantity > 0);
  };
  const set = (quantity) => {
    const fits = quantity < 1 ? 0 : Math.min(Math.max(quantity, variant.minQuantity), most);
    if (fits > 0) chosen.set(variant.id, fits);
    else chosen.delete(variant.id);
    problem.say("");
    show();
    draw();
    keep();
  };
  less.addEventListener("click", () => {
    const now = chosen.get(variant.id) ?? 0;
    set(now <= variant.minQuantity ? 0 : now - 1);
    if (!chosen.has(variant.id)) plusOne.focus();
  });
  plusOne.addEventListener("click", () => set((chosen.get(variant.id) ?? 0) + 1));
  count.addEventListener("change", () => set(/^\d{1,6}$/.test(count.value.trim()) ? Number(count.value) : 0));
  known.set(variant.id, { variant, product, show });
  if (isOut) chosen.delete(variant.id);
  else if ((chosen.get(variant.id) ?? 0) > most) chosen.set(variant.id, most);
  show();
  return element;
}

function stock(variant, isOut) {
  if (isOut) return t("shop.soldOut");
  if (variant.delivery === "MANUAL" || variant.delivery === "SUPPLIER") return t("shop.byHand");
  if (variant.available >= ENDLESS) return t("shop.always");
  if (variant.available <= FEW) return t("shop.left", { count: variant.available });
  return t("shop.stock", { count: number(variant.available) });
}

function tiers(variant) {
  if (!variant.tiers.length) return null;
  return variant.tiers.map((tier) => h("small", { class: "tier" }, t("shop.tier", { count: number(tier.fromQuantity), price: money(tier.price) })));
}

/** What one unit costs at a quantity. */
function unit(variant, quantity) {
  const reached = variant.tiers.filter((tier) => tier.fromQuantity <= quantity);
  return reached.length ? reached[reached.length - 1].price : variant.price;
}

/** The cart and its total; what the server asks for in the end is on the next page. */
function draw() {
  const lines = [...chosen].filter(([id]) => known.has(id)).map(([id, quantity]) => ({ ...known.get(id), quantity }));
  bill.replaceChildren(...lines.map(({ variant, product, quantity }) => {
    const each = unit(variant, quantity);
    return h("li", null,
      h("span", { dir: "auto" }, h("b", null, plain(product.title)), " ", plain(variant.title)),
      h("span", { class: "times" }, `× ${number(quantity)}`),
      h("span", { class: "amount" }, money({ amount: times(each.amount, quantity), currency: each.currency })));
  }));
  const sums = new Map();
  for (const { variant, quantity } of lines) {
    const { amount, currency } = unit(variant, quantity);
    sums.set(currency, plus(sums.get(currency) ?? "0", times(amount, quantity)));
  }
  total.textContent = [...sums].filter(([, amount]) => !isZero(amount)).map(([currency, amount]) => money({ amount, currency })).join(" + ") || "–";
  form.classList.toggle("empty", lines.length === 0);
  if (!lines.length) bill.append(h("li", { class: "soft" }, t("shop.choose")));
  buy.disabled = lines.length === 0;
  document.body.classList.toggle("has-cart", lines.length > 0);
}

function keep() {
  keepCart(handle, { lines: Object.fromEntries(chosen), email: email.value });
}

async function checkout() {
  problem.say("");
  if (!email.value.trim() || !email.checkValidity()) return refuseEmail(t("shop.email.wrong"));
  const lines = [...chosen].filter(([id]) => known.has(id)).map(([variantId, quantity]) => ({ variantId, quantity }));
  const input = { shop: handle, lines, contact: { email: email.value.trim(), locale: language },
    currency: wanted ?? home, signals: signals(newKey) };
  const of = JSON.stringify(input);
  if (intention?.of !== of) intention = { of, key: newKey() };
  const done = busy(buy);
  try {
    const begun = await act("start", { input }, intention.key);
    remember(begun.order.id, { key: begun.accessKey, shop: handle, shopName, quote: begun.quote, expiresAt: begun.expiresAt, input });
    keep();
    location.assign(link("pay", begun.order.id, begun.accessKey));
  } catch (error) {
    if (!error.retryable) intention = null;
    done();
    explain(error);
  }
}

function explain(error) {
  const path = error.path?.length ? error.path : (error.problems?.[0]?.path ?? []);
  if (path.includes("email")) return refuseEmail(error.message);
  problem.say(error.message || t("error.broken"));
  problem.element.scrollIntoView({ block: "nearest" });
  if (error.code === "OUT_OF_STOCK") load(true);
}

function refuseEmail(text) {
  wrong.textContent = text;
  wrong.hidden = false;
  email.setAttribute("aria-invalid", "true");
  email.focus();
}

addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  buy.removeAttribute("aria-busy");
  draw();
  load(true);
});
