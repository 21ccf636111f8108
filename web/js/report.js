// A good that does not work: its buyer says so, the shop decides, and the page shows where that stands.

import { act, newKey } from "./api.js";
import { h, icon } from "./dom.js";
import { busy, notice } from "./frame.js";
import { orderId } from "./memory.js";
import { t } from "./words.js";

const REASON_MAX = 500;

/** What stands below a good: its report, or the way to make one. */
export function report(good, key) {
  if (good.report) return h("p", { class: "told" }, icon(good.report === "REFUSED" ? "minus" : "clock"), h("span", null, t(`report.${good.report}`)));
  const field = h("input", { id: `why-${good.id}`, maxlength: REASON_MAX, required: true, autocomplete: "off" });
  const problem = notice();
  const send = h("button", { class: "small" }, t("report.send"));
  const form = h("form", { class: "report" },
    h("div", { class: "field" }, h("label", { for: field.id }, t("report.why")), field), problem.element, send);
  const part = h("details", { class: "dead" }, h("summary", null, t("report.open")), form);
  part.addEventListener("toggle", () => part.open && field.focus());
  let intention = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const done = busy(send);
    problem.say("");
    intention ??= newKey();
    try {
      const input = { orderId, accessKey: key, lineId: good.lineId, goodId: good.id, reason: field.value.trim() };
      const { state } = await act("report", { input }, intention);
      part.replaceWith(report({ ...good, report: state }, key));
    } catch (error) {
      done();
      if (!error.retryable) intention = null;
      problem.say(error.message || t("error.broken"));
    }
  });
  return part;
}
