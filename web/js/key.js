// Asks for the key of an order when neither the address nor this tab has it.

import { h, icon } from "./dom.js";
import { main } from "./frame.js";
import { link, orderId, readKey } from "./memory.js";
import { t } from "./words.js";

/** A form for the key or the whole link out of the mail. `page` is where it leads. */
export function askForKey(page, text) {
  const wrong = h("small", { id: "key-wrong", class: "wrong", role: "alert", hidden: !text }, text);
  const field = h("input", { id: "key", name: "key", autocomplete: "off", autocapitalize: "none", spellcheck: "false", required: true,
    "aria-describedby": "key-wrong key-why" });
  const form = h("form", { class: "card center narrow", novalidate: true },
    h("span", { class: "sign" }, icon("key")),
    h("h1", null, t("key.title")),
    h("p", { class: "soft", id: "key-why" }, t("key.why")),
    h("div", { class: "field" }, h("label", { for: "key" }, t("key.label")), field, wrong),
    h("button", { class: "go" }, t("key.open")),
    h("a", { href: `/account/sign-in?to=${encodeURIComponent(location.pathname)}` }, t("key.signIn")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = readKey(field.value);
    if (key === null) {
      wrong.textContent = t("key.none");
      wrong.hidden = false;
      field.setAttribute("aria-invalid", "true");
      field.focus();
      return;
    }
    const address = link(page === "pay" ? "pay" : "orders", orderId, key);
    if (location.pathname + location.hash === address) location.reload();
    else location.replace(address);
  });
  main.className = "wide";
  main.replaceChildren(form);
}
