// The order's page: where it stands, live; the goods once they are there; where the money went.

import { again } from "./again.js";
import { ask } from "./api.js";
import { copyButton, h, icon, plain, section } from "./dom.js";
import { main, start, top } from "./frame.js";
import { askForKey } from "./key.js";
import { accessKey, link, orderId, recall, remember } from "./memory.js";
import { isZero, permille, plus } from "./money.js";
import { rates } from "./rates.js";
import { report } from "./report.js";
import { countdown, follow } from "./stream.js";
import { has, hour, moment, money, number, t } from "./words.js";

const SIGNS = {
  AWAITING_PAYMENT: ["wait", "card"], PROCESSING: ["wait", "clock"], UNKNOWN: ["wait", "clock"], PARTIAL: ["warn", "alert"],
  MISMATCH: ["warn", "alert"], DECLINED: ["bad", "alert"], PAID: ["wait", "check"], DELIVERING: ["wait", "clock"],
  DELIVERED: ["good", "check"], HELD: ["warn", "pause"], SHORT: ["warn", "clock"], REFUNDED: ["done", "undo"],
  CANCELLED: ["done", "minus"], EXPIRED: ["done", "clock"], DISPUTED: ["warn", "alert"],
};
const PAYABLE = ["AWAITING_PAYMENT", "DECLINED", "PARTIAL", "PROCESSING"];
const MOVING = ["PROCESSING", "UNKNOWN", "PAID", "DELIVERING"];
const BAD = ["DECLINED", "FAILED", "MISMATCH", "UNAUTHENTICATED", "RISK_DECLINED", "REFUND_FAILED", "SHORT", "HELD", "LATE", "EXPIRED", "CANCELLED", "REVOKED"];
const key = accessKey();
const seen = recall(orderId);
const lamp = h("span", { class: "lamp", role: "status" });
let newest = 0;
let stopClock = () => {};
let saved = []; // comes with the money, and is not in the stream
let isKnown = false;

const parts = {
  hero: section(hero, { class: "card hero" }),
  goods: section(goods, { class: "card" }),
  again: section((order) => order && again({ ...order, key, shop: seen.shop }), { class: "card again" }),
  lines: section(bought, { class: "card" }),
  timeline: section(timeline, { class: "card" }),
  funds: section(funds, { class: "card" }),
};

await start(async () => {
  main.className = "wide tracking";
  top(plain(seen.shopName ?? "Kami"), seen.shop ? `/s/${seen.shop}` : null);
  main.replaceChildren(h("div", { class: "card waiting tall" }, h("i"), h("i"), h("i")));
  const order = await read();
  // Without a key the order is shown to its buyer, signed in.
  if (order === null) return askForKey("orders", key && t("key.wrong"));
  seen.shop = order.shop.handle; // the link may have been opened elsewhere
  saved = order.savedMethods;
  isKnown = isOver(order);
  remember(orderId, { key, shop: order.shop.handle, shopName: order.shop.name });
  top(plain(order.shop.name), `/s/${seen.shop}`);
  main.replaceChildren(
    h("div", { class: "left-side" }, parts.hero.element, parts.goods.element, parts.again.element, parts.lines.element,
      order.quote && h("div", { class: "card" }, rates(order.quote))),
    h("div", { class: "right-side" }, parts.timeline.element, parts.funds.element,
      h("p", { class: "soft small private" }, t("order.private"))));
  show(order);
  lamp.textContent = t("live.wait");
  follow({ id: orderId, key, after: order.timeline.at(-1)?.cursor ?? null, told: ({ order: now }) => show(now),
    gap: async () => show(await read()), state: shine });
});

async function read() {
  return (await ask("order", { id: orderId, key })).order;
}

function show(order) {
  const sequence = order.timeline.at(-1)?.sequence ?? 0;
  if (sequence < newest) return; // an answer that was overtaken
  newest = sequence;
  const mood = moodOf(order);
  document.title = `${t(`status.${mood}`)} · ${order.number}`;
  parts.hero.show({ mood, number: order.number, total: order.total, expiresAt: order.expiresAt, state: order.paymentState });
  parts.goods.show(order.goods, order.lines, order.number);
  showAgain(order);
  parts.lines.show({ lines: order.lines, total: order.total, createdAt: order.createdAt, number: order.number, payments: order.payments, isPartly: order.paymentState === "PARTIALLY_CHARGED" });
  parts.timeline.show(order.timeline.map(({ sequence: place, occurredAt, kind }) => ({ place, occurredAt, kind })));
  parts.funds.show(order.fundsFlow);
}

function isOver(order) {
  return ["DELIVERED", "REFUNDED"].includes(order.status);
}

function showAgain(order) {
  parts.again.show(isOver(order) ? { id: order.id, total: order.total, lines: order.lines, saved } : null);
  if (isKnown || !isOver(order)) return;
  isKnown = true;
  read().then((now) => { saved = now.savedMethods; showAgain(order); }).catch(console.error);
}

/** Where it stands as a buyer sees it: an unpaid order is told by its last attempt to pay. */
function moodOf(order) {
  if (order.status !== "AWAITING_PAYMENT") return order.status;
  if (order.paymentState === "PARTIALLY_CHARGED") return "PARTIAL";
  const last = order.payments.at(-1);
  if (!last || last.status === "VOIDED") return "AWAITING_PAYMENT";
  if (last.status === "DECLINED" || last.status === "FAILED") return "DECLINED";
  if (order.timeline.some(({ kind }) => kind === "MISMATCH")) return "MISMATCH";
  return last.status === "UNKNOWN" ? "UNKNOWN" : "PROCESSING";
}

function shine(state, error) {
  lamp.className = `lamp ${state}`;
  lamp.textContent = state === "live" ? t("live.on") : state === "lost" ? t("live.lost") : error.message;
}

function hero({ mood, number: serial, total, expiresAt, state }) {
  const [tone, sign] = SIGNS[mood] ?? ["wait", "clock"];
  stopClock();
  const isPayable = PAYABLE.includes(mood);
  return [
    h("div", { class: "meta" }, h("span", { class: "soft" }, t("order.number", { number: serial })), lamp),
    h("div", { class: "standing", role: "status" },
      h("span", { class: `sign ${tone}${MOVING.includes(mood) ? " moving" : ""}` }, icon(sign)),
      h("div", null, h("h1", null, t(`status.${mood}`)), h("p", null, t(`status.${mood}.text`, { amount: money(total) })))),
    state === "OVERPAID" && h("p", { class: "notice calm" }, icon("undo"), h("span", null, t("order.overpaid"))),
    state === "PARTIALLY_REFUNDED" && h("p", { class: "notice calm" }, icon("undo"), h("span", null, t("order.partlyBack"))),
    steps(mood),
    isPayable && deadline(expiresAt),
    isPayable && h("a", { class: mood === "PROCESSING" ? "button quiet" : "button go", href: link("pay", orderId, key) },
      t(mood === "DECLINED" ? "order.payAgain" : mood === "PROCESSING" ? "order.payOther" : "order.pay")),
    (mood === "EXPIRED" || mood === "CANCELLED") && seen.shop && h("a", { class: "button go", href: `/s/${seen.shop}` }, t("order.newOne")),
  ];
}

function deadline(expiresAt) {
  const left = h("b", { role: "timer", class: "left" });
  stopClock = countdown(expiresAt, (text) => (left.textContent = text));
  return h("p", { class: "clock" }, icon("clock"), h("span", null, t("order.until")), left);
}

function steps(mood) {
  const place = { PAID: 1, DELIVERING: 1, HELD: 1, SHORT: 1, DELIVERED: 2 }[mood] ?? (PAYABLE.includes(mood) || mood === "UNKNOWN" || mood === "MISMATCH" ? 0 : null);
  if (place === null) return null;
  return h("ol", { class: "steps" }, ["placed", "paid", "delivered"].map((name, at) =>
    h("li", { class: at <= place ? "done" : at === place + 1 ? "next" : null, "aria-current": at === place ? "step" : null }, t(`step.${name}`))));
}

function goods(given, lines, serial) {
  if (!given.length) return null;
  const valid = given.filter((good) => !good.revoked);
  const all = valid.map((good) => good.content).join("\n");
  const head = h("div", { class: "head" }, h("h2", null, t("goods.title")),
    valid.length > 1 && h("div", { class: "tools" }, copyButton(all, t("goods.copyAll"), t("copied")), saveButton(all, serial)));
  const groups = lines.map((line) => [line, given.filter((good) => good.lineId === line.id)]).filter(([, some]) => some.length);
  return [head, groups.map(([line, some]) => [
    h("h3", { dir: "auto" }, plain(line.title), some.length > 1 && h("span", { class: "times" }, ` × ${number(some.length)}`)),
    h("ul", { class: "keys" }, some.map((good) =>
      h("li", null, h("div", { class: good.revoked ? "key revoked" : "key" }, h("code", { dir: "auto" }, plain(good.content)),
        good.revoked ? h("span", { class: "chip" }, t(good.report === "REPLACED" ? "report.REPLACED" : "goods.revoked"))
          : copyButton(good.content, t("copy"), t("copied"))),
        !good.revoked && report(good, key)))),
  ])];
}

function saveButton(text, serial) {
  const button = h("button", { type: "button", class: "small" }, icon("save"), h("span", null, t("goods.save")));
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([text, "\n"], { type: "text/plain;charset=utf-8" }));
    h("a", { href: url, download: `${serial}.txt` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  return button;
}

function bought({ lines, total, createdAt, number: serial, payments, isPartly }) {
  const told = ({ status }) => t(isPartly && status === "CAPTURED" ? "status.PARTIAL" : `payment.${status}`);
  return [
    h("h2", null, t("order.bought")),
    h("ul", { class: "bill" }, lines.map((line) => h("li", null, h("span", { dir: "auto" }, plain(line.title)),
      h("span", { class: "times" }, `× ${number(line.quantity)}`),
      line.delivered > 0 && line.delivered < line.quantity && h("span", { class: "soft" }, t("order.partly", { done: line.delivered, all: line.quantity }))))),
    h("div", { class: "sum" }, h("span", null, t("shop.total")), h("b", { class: "total" }, money(total))),
    h("dl", { class: "facts" },
      h("dt", null, t("order.serial")), h("dd", null, h("code", null, serial)),
      h("dt", null, t("order.at")), h("dd", null, moment(createdAt)),
      payments.map((payment) => [h("dt", null, payment.method.name), h("dd", null, `${money(payment.amount)} · ${told(payment)}`)])),
  ];
}

function timeline(events) {
  const newestDay = events.at(-1)?.occurredAt.slice(0, 10);
  return [
    h("h2", null, t("order.timeline")),
    h("ol", { class: "line" }, [...events].reverse().map(({ kind, occurredAt }) =>
      h("li", { class: BAD.includes(kind) ? "odd" : null },
        h("span", null, has(`event.${kind}`) ? t(`event.${kind}`) : kind),
        h("time", { datetime: occurredAt }, occurredAt.startsWith(newestDay) ? hour(occurredAt) : moment(occurredAt))))),
  ];
}

function funds(legs) {
  const some = legs.filter(({ amount }) => !isZero(amount.amount));
  if (!some.length) return null;
  const whole = some.reduce((sum, { amount }) => plus(sum, amount.amount), "0");
  return [
    h("h2", null, t("funds.title")),
    h("p", { class: "soft small" }, t("funds.why")),
    h("ul", { class: "legs" }, some.map(({ leg, amount, returned }) => {
      const bar = h("i", { "aria-hidden": "true" });
      bar.style.setProperty("--part", `${Math.max(0.5, permille(amount.amount, whole) / 10)}%`);
      return h("li", null, h("span", null, has(`leg.${leg}`) ? t(`leg.${leg}`) : leg), h("b", null, money(amount)), bar,
        !isZero(returned.amount) && h("small", { class: "soft" }, t("funds.back", { amount: money(returned) })));
    })),
  ];
}

addEventListener("hashchange", () => location.reload());
