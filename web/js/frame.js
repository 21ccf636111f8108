// What all pages share: the top with its switches, notices, and starting up.

import { h, icon } from "./dom.js";
import { choose, language, languages, speak, t } from "./words.js";

export const main = document.getElementById("main");

/** Load the words, draw the top, then run the page; what goes wrong is said instead of shown as nothing. */
export async function start(page) {
  try {
    await speak();
    await page();
  } catch (error) {
    main.replaceChildren(failure(error, () => location.reload()));
    console.error(error);
  }
}

/** The top of the page. `home` is an address or null, `more` further switches. */
export function top(title, home, ...more) {
  // The storefront has no other heading of the first level.
  const name = h(document.body.classList.contains("at-shop") ? "h1" : "span", { class: "shop" }, title);
  const mark = h("span", { class: "seal", lang: "ja", "aria-hidden": "true" }, "紙");
  document.getElementById("top").replaceChildren(
    h("div", { class: "wide bar" }, home ? h("a", { class: "brand", href: home }, mark, name) : h("span", { class: "brand" }, mark, name),
      h("div", { class: "switches" }, ...more, languageSwitch())),
  );
}

function languageSwitch() {
  return select(t("language"), languages, language, choose);
}

/** A small choice with a label for screen readers. */
export function select(label, options, chosen, changed) {
  const box = h("select", { "aria-label": label, onchange: () => changed(box.value) },
    ...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("span", { class: "select" }, box);
}

/** A failure in words, with a way on. */
export function failure(error, again) {
  const words = error.code || error.message === undefined ? error.message : t("error.broken");
  return h("div", { class: "card center narrow" },
    h("span", { class: "sign bad" }, icon("alert")),
    h("h1", null, t("error.title")),
    h("p", { class: "soft", role: "alert" }, words ?? t("error.broken")),
    again && h("button", { type: "button", class: "go", onclick: again }, t("error.again")));
}

/** A line that says what went wrong with what was just tried. */
export function notice() {
  const element = h("p", { class: "notice", role: "alert", hidden: true });
  return {
    element,
    say(text) {
      element.hidden = !text;
      element.replaceChildren(...(text ? [icon("alert"), h("span", null, text)] : []));
    },
  };
}

/** Mark a button as working; returns the function that ends it. */
export function busy(button) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  return () => {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  };
}
