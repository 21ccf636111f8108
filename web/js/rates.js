// The exchange rate of an order: what the source says and what is charged, side by side.

import { h } from "./dom.js";
import { percent } from "./money.js";
import { decimal, moment, t } from "./words.js";

/** Both rates and who says so; nothing when the shop prices in the order's currency. */
export function rates(quote) {
  if (!quote) return null;
  const pair = (rate) => t("pay.rate", { base: quote.base, target: quote.target, rate: decimal(rate) });
  return h("div", { class: "rates" },
    h("h2", null, t("pay.rates")),
    h("dl", null,
      h("dt", null, t("pay.charged")), h("dd", null, pair(quote.rate)),
      h("dt", null, t("pay.reference")), h("dd", null, pair(quote.referenceRate)),
      h("dt", null, t("pay.spread")), h("dd", null, `${decimal(percent(quote.spreadBps))} %`)),
    h("p", { class: "soft small" }, t("pay.source", { source: quote.source, until: moment(quote.lockedUntil) })));
}
