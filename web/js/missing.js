// A shop or an order that is not there.

import { h, icon } from "./dom.js";
import { main, start, top } from "./frame.js";
import { t } from "./words.js";

await start(() => {
  top("Kami", null);
  main.replaceChildren(
    h("div", { class: "card center narrow" },
      h("span", { class: "sign" }, icon("search")),
      h("h1", null, main.dataset.title),
      h("p", { class: "soft" }, t("missing.hint"))),
  );
});
