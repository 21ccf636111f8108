// Buying the same once more: in one tap with what was saved, else with the cart filled again.

import { act, newKey } from "./api.js";
import { h, icon, plain } from "./dom.js";
import { busy, notice } from "./frame.js";
import { cart, keepCart, link, remember, signals } from "./memory.js";
import { money, t } from "./words.js";

/** The part of an order's page that buys again. */
export function again({ id, key, total, lines, shop, saved }) {
  const problem = notice();
  const fill = h("button", { type: "button", class: "quiet", onclick: () => {
    keepCart(shop, { ...cart(shop), lines: Object.fromEntries(lines.map((line) => [line.variantId, line.quantity])) });
    location.assign(`/s/${shop}`);
  } }, t(saved.length ? "again.change" : "again.cart"));
  return [h("h2", null, t("again.title")),
    saved.length > 0 && h("p", { class: "soft small" }, t("again.why")),
    saved.map((method) => oneTap({ id, key, total, shop, method, problem })), problem.element, fill];
}

/** A button that orders and charges in one call; another price by now is asked about first. */
function oneTap({ id, key, total, shop, method, problem }) {
  let expected = total;
  let intention = null; // a try that got lost is the same purchase
  const words = h("span", null, label());
  const button = h("button", { type: "button", class: "go" }, icon("card"), words);
  button.addEventListener("click", async () => {
    const done = busy(button);
    problem.say("");
    intention ??= newKey();
    try {
      const input = { orderId: id, accessKey: key, savedMethodId: method.id, expectedTotal: expected, signals: signals(newKey) };
      const bought = await act("again", { input }, intention);
      remember(bought.order.id, { key: bought.accessKey, shop });
      location.assign(link("orders", bought.order.id, bought.accessKey));
    } catch (error) {
      done();
      if (!error.retryable) intention = null;
      if (error.code === "PRICE_CHANGED" && error.total) {
        expected = error.total;
        words.textContent = label();
      }
      problem.say(error.message || t("error.broken"));
    }
  });
  return button;

  function label() {
    return t("again.tap", { amount: money(expected), method: plain(method.label) });
  }
}
