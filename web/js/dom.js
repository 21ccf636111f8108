// Builds elements. Text goes in as text nodes only, so nothing a merchant or buyer wrote is ever markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p", { class: "soft", onclick: f }, "text", child, null)`. Null and false are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Draws a part of the page again only when what it shows has changed: focus and selection stay. */
export function section(render, props) {
  const element = h("section", props);
  let shown;
  return {
    element,
    show(data, ...more) {
      const now = JSON.stringify([data, more]);
      if (now === shown) return;
      shown = now;
      const content = [render(data, ...more)].flat(9).filter(Boolean);
      element.hidden = content.length === 0;
      element.replaceChildren(...content);
    },
  };
}

// Characters that turn text around, are not seen, or control a terminal.
const TRICKS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Foreign text as it can be shown: what would deceive the eye is written out, e.g. ⟨202E⟩. */
export function plain(text) {
  return text.replace(TRICKS, (one) => `⟨${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

const SHAPES = {
  minus: "M5 12h14",
  plus: "M5 12h14M12 5v14",
  check: "M5 12.5l4.5 4.5L19 7.5",
  copy: "M9 9h10v11H9zM5 15V4h10",
  clock: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 7.5V12l3 2",
  alert: "M12 4L2.8 20h18.4zM12 10v4.5M12 17.2v.1",
  back: "M15 5l-7 7l7 7",
  next: "M9 5l7 7l-7 7",
  pause: "M9 6v12M15 6v12",
  undo: "M8 5L4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3",
  key: "M8.5 11a4 4 0 1 0 0 .1M12 12h9M18 12v4",
  card: "M3 6h18v12H3zM3 10h18",
  wallet: "M3 7h16v12H3zM3 7l12-3v3M16 13h.1",
  qr: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 18h2v2h-2z",
  bank: "M4 10l8-6l8 6M5 10v8M10 10v8M14 10v8M19 10v8M3 20h18",
  coin: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M9.5 8h4a2 2 0 0 1 0 4h-4h4.5a2 2 0 0 1 0 4H9.5zM12 6.5v11",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13M15.5 15.5L20 20",
  save: "M12 4v11M7.5 11l4.5 4.5l4.5-4.5M5 20h14",
};

/** A decorative icon; its meaning is always in a text beside it or in a label. */
export function icon(name) {
  const path = svg("path", { d: SHAPES[name] });
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, path);
}

/** A button that copies `text` and says so. */
export function copyButton(text, label, done) {
  const words = h("span", null, label);
  const button = h("button", { type: "button", class: "small" }, icon("copy"), words);
  button.addEventListener("click", async () => {
    await copy(text);
    words.textContent = done;
    button.classList.add("done");
    setTimeout(() => {
      words.textContent = label;
      button.classList.remove("done");
    }, 1800);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http on another host has no clipboard: the old way.
    const area = h("textarea", { class: "away", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
