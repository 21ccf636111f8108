// Words, amounts and dates in the reader's language.

import { facts } from "./facts.js";

const NAMES = { en: "English", zh: "中文", ja: "日本語", es: "Español" };
const KEPT = "kami.language";
let words = {};

export let language = document.documentElement.lang;

/** The languages to choose from, as [code, own name]. */
export const languages = facts.languages.map((code) => [code, NAMES[code] ?? code]);

/** Load the words of the chosen language: the reader's choice, else the browser's. */
export async function speak() {
  const chosen = read();
  if (facts.languages.includes(chosen)) language = chosen;
  // Same mode as the preload in the page, or it is loaded twice.
  const answer = await fetch(new URL(`../i18n/${language}.json`, import.meta.url), { credentials: "same-origin" });
  words = await answer.json();
  document.documentElement.lang = language;
}

/** Remember a language and start again with it. */
export function choose(code) {
  try {
    localStorage.setItem(KEPT, code);
  } catch {
    // Private mode: this page only.
  }
  location.reload();
}

function read() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/** A text with its facts; `count` chooses between `key.one` and `key.other`. */
export function t(key, given = {}) {
  let text = words[key];
  if (text === undefined && "count" in given) {
    text = words[`${key}.${new Intl.PluralRules(language).select(given.count)}`] ?? words[`${key}.other`];
  }
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => given[name] ?? whole);
}

/** Whether there is such a text. */
export function has(key) {
  return key in words;
}

/** An amount as people write it. Intl takes the exact text, no number is made of it. */
export function money({ amount, currency }) {
  const digits = (amount.split(".")[1] ?? "").length;
  const style = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  try {
    return new Intl.NumberFormat(language, { style: "currency", currency, ...style }).format(amount);
  } catch {
    // No ISO code (USDT): the number and its code.
    return `${new Intl.NumberFormat(language, style).format(amount)} ${currency}`;
  }
}

/** A decimal text with the language's separators, at most six digits behind the point. */
export function decimal(text) {
  const digits = Math.min((text.split(".")[1] ?? "").length, 6);
  return new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(text);
}

/** A whole number. */
export function number(count) {
  return new Intl.NumberFormat(language).format(count);
}

/** Date and time. */
export function moment(iso) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

/** Time of day. */
export function hour(iso) {
  return new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(new Date(iso));
}

/** The name of a currency, e.g. Euro. */
export function currencyName(code) {
  try {
    return new Intl.DisplayNames(language, { type: "currency" }).of(code);
  } catch {
    return code;
  }
}
