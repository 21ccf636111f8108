// Exact arithmetic on decimal strings. Amounts never become floating point numbers.

/** "19.90" → { units: 1990n, digits: 2 }. */
function read(amount) {
  const [whole, part = ""] = amount.split(".");
  return { units: BigInt(whole + part), digits: part.length };
}

/** A unit price times a whole number: ("19.90", 3) → "59.70". */
export function times(amount, count) {
  const { units, digits } = read(amount);
  return write(units * BigInt(count), digits);
}

/** The sum of amounts with the same number of digits. */
export function plus(left, right) {
  const one = read(left);
  const other = read(right);
  const digits = Math.max(one.digits, other.digits);
  return write(one.units * 10n ** BigInt(digits - one.digits) + other.units * 10n ** BigInt(digits - other.digits), digits);
}

/** Whether an amount is nothing. */
export function isZero(amount) {
  return read(amount).units === 0n;
}

/** A share in basis points as a per cent text: 20 → "0.2". */
export function percent(bps) {
  return write(BigInt(bps), 2).replace(/\.?0+$/, "");
}

/** What a part is of a whole, in thousandths, for the width of a bar. */
export function permille(part, whole) {
  const of = read(whole).units;
  return of === 0n ? 0 : Number((read(part).units * 1000n) / of);
}

function write(units, digits) {
  const sign = units < 0n ? "-" : "";
  const text = String(units < 0n ? -units : units).padStart(digits + 1, "0");
  return sign + (digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text);
}
