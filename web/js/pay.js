// The payment page: what is bought, at which rate and until when, and the ways to pay. One tap pays.

import { Refusal, act, ask, newKey } from "./api.js";
import { copyButton, h, icon, plain } from "./dom.js";
import { busy, failure, main, notice, start, top } from "./frame.js";
import { askForKey } from "./key.js";
import { accessKey, link, orderId, platform, recall, remember, signals } from "./memory.js";
import { qrCode } from "./qr.js";
import { rates } from "./rates.js";
import { countdown, follow } from "./stream.js";
import { has, money, number, t } from "./words.js";

const ICONS = { CARD: "card", WALLET: "wallet", QR: "qr", BANK: "bank", CRYPTO: "coin", REDIRECT: "card" };
const key = accessKey();
const seen = recall(orderId);
const problem = notice();
let stopClock = () => {};
let watching = false;

await start(async () => {
  main.className = "wide paying";
  top(plain(seen.shopName ?? "Kami"), seen.shop ? `/s/${seen.shop}` : null);
  main.replaceChildren(h("div", { class: "card waiting tall" }, h("i"), h("i"), h("i")), h("div", { class: "card waiting tall" }, h("i"), h("i"), h("i")));
  await show();
});

async function show() {
  const { order } = await ask("bill", { id: orderId, key });
  if (order === null) return askForKey("pay", key && t("key.wrong"));
  remember(orderId, { key, shop: order.shop.handle, shopName: order.shop.name });
  top(plain(order.shop.name), `/s/${order.shop.handle}`);
  if (order.status !== "AWAITING_PAYMENT") return location.replace(link("orders", orderId, key));
  const { market } = await ask("methods", { amount: order.total, platform: platform() });
  document.title = t("pay.titleOf", { amount: money(order.total) });
  const { quote } = order;
  const until = quote && quote.lockedUntil < order.expiresAt ? quote.lockedUntil : order.expiresAt;
  main.replaceChildren(summary(order, until), h("div", { class: "card ways", id: "ways" }, methods(order, market.paymentMethods)));
}

function summary(order, until) {
  const left = h("b", { role: "timer", class: "left" });
  const clock = h("p", { class: "clock" }, icon("clock"), h("span", null, t("pay.until")), left);
  stopClock();
  stopClock = countdown(until, (text, seconds) => {
    left.textContent = text;
    clock.classList.toggle("soon", seconds < 120);
  }, () => expired(order));
  return h("div", { class: "card summary" },
    h("p", { class: "soft" }, t("order.number", { number: order.number })),
    h("h1", { class: "big" }, money(order.total)),
    isPartly(order) && h("p", { class: "notice calm" }, icon("card"), h("span", null, t("pay.rest"))),
    clock,
    h("ul", { class: "bill" }, order.lines.map((line) =>
      h("li", null, h("span", { dir: "auto" }, plain(line.title)), h("span", { class: "times" }, `× ${number(line.quantity)}`)))),
    rates(order.quote));
}

function methods(order, offered) {
  if (!offered.length) return [h("h2", null, t("pay.how")), h("p", { class: "soft" }, t("pay.none"))];
  const saved = isPartly(order) ? [] : order.savedMethods.filter(({ method }) => offered.some(({ code }) => code === method.code));
  const buttons = [...saved.map((one, place) => savedButton(order, one, place === 0)),
    ...offered.map((method, place) => methodButton(order, method, place === 0 && !saved.length))];
  return [h("h2", null, t("pay.how")), problem.element, h("ul", { class: "methods" }, buttons.map((one) => h("li", null, one))),
    offered.some(({ canSave }) => canSave) && saving(), h("p", { class: "soft small" }, t("pay.safe"))];
}

/** Whether to keep what is paid by, and in words what that means. */
function saving() {
  return h("div", { class: "saving" }, h("input", { type: "checkbox", id: "save", "aria-describedby": "save-why" }),
    h("label", { for: "save" }, t("pay.save")), h("small", { class: "soft", id: "save-why" }, t("pay.save.why")));
}

/** What was saved before: charged at once, without another page. */
function savedButton(order, saved, isFirst) {
  const button = h("button", { type: "button", class: isFirst ? "method first" : "method" },
    h("span", { class: "kind" }, icon("card")),
    h("span", { class: "name" }, h("b", null, t("pay.with", { amount: money(order.total), method: plain(saved.label) })),
      h("span", { class: "chips" }, h("span", { class: isFirst ? "chip best" : "chip" }, t("pay.saved")))), icon("next"));
  button.addEventListener("click", () => pay(order, saved.method, button, { savedMethodId: saved.id }));
  return button;
}

function methodButton(order, method, isFirst) {
  const reasons = method.reasons.filter((one) => has(`reason.${one}`)).map((one) => h("span", { class: "chip" }, t(`reason.${one}`)));
  const button = h("button", { type: "button", class: isFirst ? "method first" : "method" },
    h("span", { class: "kind" }, icon(ICONS[method.kind] ?? "card")),
    h("span", { class: "name" },
      h("b", null, isFirst ? label(order, method) : method.name),
      h("span", { class: "chips" }, isFirst && h("span", { class: "chip best" }, t("pay.best")), ...reasons,
        method.surcharge && h("span", { class: "chip" }, t("pay.surcharge", { amount: money(method.surcharge) })))),
    icon("next"));
  button.addEventListener("click", () => pay(order, method, button));
  return button;
}

function label(order, method) {
  return t(isPartly(order) ? "pay.restWith" : "pay.with", { amount: money(order.total), method: method.name });
}

/** Whether something has arrived already: then only the rest is asked for. */
function isPartly(order) {
  return order.paymentState === "PARTIALLY_CHARGED";
}

async function pay(order, method, button, more = {}) {
  problem.say("");
  const others = [...document.querySelectorAll(".method")];
  const done = others.map(busy);
  button.classList.add("going");
  const saveMethod = Boolean(method.canSave && document.getElementById("save")?.checked);
  const input = { orderId, accessKey: key, method: method.code, signals: signals(newKey), saveMethod, ...more,
    // The key stays here; the provider only learns where to send people back to.
    returnUrl: `${location.origin}/orders/${encodeURIComponent(orderId)}` };
  try {
    go(await act("pay", { input }, newKey()), method);
  } catch (error) {
    done.forEach((end) => end());
    button.classList.remove("going");
    if (error.code === "QUOTE_EXPIRED") expired(order);
    else if (error.code === "ORDER_STATE_CONFLICT" || error.code === "OUTCOME_UNKNOWN") location.replace(link("orders", orderId, key));
    else problem.say(error.code ? error.message : t("error.broken"));
  }
}

/** Do what comes next. Only http(s) addresses are followed. */
function go(payment, method) {
  const action = payment.nextAction;
  switch (action?.__typename) {
    case "RedirectAction":
    case "ChallengeAction": {
      const url = new URL(action.url);
      if (url.protocol !== "https:" && url.protocol !== "http:") throw new TypeError("address");
      location.assign(url.href);
      return;
    }
    case "QrCodeAction":
      return sheet(method, action.expiresAt, qrCode(action.content, t("pay.qr")), h("p", null, t("pay.scan", { method: method.name })),
        copyButton(action.content, t("pay.copyCode"), t("copied")));
    case "TransferAction":
      return sheet(method, action.expiresAt, qrCode(action.address, t("pay.qr")),
        h("p", null, t("pay.transfer")),
        h("dl", { class: "transfer" }, h("dt", null, t("pay.amount")), h("dd", null, h("b", null, `${action.amount.amount} ${action.amount.currency}`),
          copyButton(action.amount.amount, t("copy"), t("copied"))),
        h("dt", null, t("pay.address")), h("dd", null, h("code", null, action.address), copyButton(action.address, t("copy"), t("copied")))));
    case "WalletAction":
      // The sheets of wallets belong to their adapters; none is installed yet.
      throw new Refusal({ code: "WALLET", message: t("pay.wallet", { wallet: action.wallet }) });
    default:
      location.assign(link("orders", orderId, key));
  }
}

/** A code or an address to pay to; the page goes on by itself once the money is there. */
function sheet(method, until, ...content) {
  const left = h("b", { role: "timer", class: "left" });
  const ways = document.getElementById("ways");
  ways.replaceChildren(h("h2", null, method.name), h("div", { class: "sheet" }, content),
    h("p", { class: "clock" }, icon("clock"), t("pay.code.until"), left),
    h("p", { class: "soft", role: "status" }, h("span", { class: "dot live" }), t("pay.waiting")),
    h("button", { type: "button", class: "quiet", onclick: () => show() }, t("pay.another")));
  countdown(until, (text) => (left.textContent = text));
  if (watching) return;
  watching = true;
  const leave = ({ order }) => order.status !== "AWAITING_PAYMENT" && location.replace(link("orders", orderId, key));
  follow({ id: orderId, key, after: null, told: leave, gap: () => show(), state: () => {} });
}

/** The price is no longer held: the same cart again, at today's rate. */
function expired(order) {
  const input = seen.input;
  const ways = document.getElementById("ways");
  if (!ways || ways.dataset.over) return;
  ways.dataset.over = "1";
  const again = h("button", { type: "button", class: "go" }, t("pay.renew"));
  again.addEventListener("click", async () => {
    const done = busy(again);
    try {
      const begun = await act("start", { input }, newKey());
      remember(begun.order.id, { ...seen, key: begun.accessKey, quote: begun.quote, expiresAt: begun.expiresAt });
      location.replace(link("pay", begun.order.id, begun.accessKey));
    } catch (error) {
      done();
      problem.say(error.message);
    }
  });
  ways.replaceChildren(h("h2", null, t("pay.over.title")), h("p", null, t("pay.over.text")), problem.element,
    input ? again : h("a", { class: "button go", href: link("orders", order.id, key) }, t("pay.over.order")));
}

// Back from the provider by the browser's button: buttons are as they were left, the order may have moved on.
addEventListener("pageshow", (event) => event.persisted && show().catch((error) => main.replaceChildren(failure(error, () => location.reload()))));
addEventListener("hashchange", () => location.reload());
