// QR codes drawn here: bytes, level M, versions 1 to 40 (ISO/IEC 18004). Nothing is sent to anybody.

import { svg } from "./dom.js";

// Level M, by version: error correction bytes per block, and the number of blocks.
const CHECK = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, ...Array(19).fill(28)];
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29,
  31, 33, 35, 37, 38, 40, 43, 45, 47, 49];
const MASKS = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2, (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** The code of a text as an SVG element. Throws RangeError above 2,331 bytes. */
export function qrCode(text, label) {
  const cells = matrix(text);
  const size = cells.length + 8;
  const path = cells.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join("");
  return svg("svg", { class: "qr", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label, "shape-rendering": "crispEdges" },
    svg("path", { fill: "#fff", d: `M0 0h${size}v${size}H0z` }), svg("path", { fill: "#000", d: path }));
}

/** Rows of booleans, true is dark. */
export function matrix(text) {
  const bytes = new TextEncoder().encode(text);
  const version = fitting(bytes.length);
  const grid = frame(version);
  place(grid, interleave(fillUp(bytes, version), version));
  let best = null;
  for (let mask = 0; mask < 8; mask += 1) {
    const tried = masked(grid, mask);
    const score = penalty(tried);
    if (best === null || score < best.score) best = { score, tried };
  }
  return best.tried;
}

/** Bits for data and error correction in a version. */
function room(version) {
  let bits = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const marks = Math.floor(version / 7) + 2;
    bits -= (25 * marks - 10) * marks - 55;
    if (version >= 7) bits -= 36;
  }
  return bits;
}

function dataBytes(version) {
  return Math.floor(room(version) / 8) - CHECK[version - 1] * BLOCKS[version - 1];
}

function fitting(length) {
  for (let version = 1; version <= 40; version += 1) {
    if (12 + (version > 9 ? 8 : 0) + length * 8 <= dataBytes(version) * 8) return version;
  }
  throw new RangeError("Too long for a QR code");
}

function fillUp(bytes, version) {
  const bits = [];
  const push = (value, count) => {
    for (let bit = count - 1; bit >= 0; bit -= 1) bits.push((value >> bit) & 1);
  };
  push(4, 4);
  push(bytes.length, version > 9 ? 16 : 8);
  bytes.forEach((byte) => push(byte, 8));
  const total = dataBytes(version) * 8;
  push(0, Math.min(4, total - bits.length));
  while (bits.length % 8) bits.push(0);
  for (let pad = 0xec; bits.length < total; pad ^= 0xec ^ 0x11) push(pad, 8);
  return Array.from({ length: bits.length / 8 }, (_, place) => parseInt(bits.slice(place * 8, place * 8 + 8).join(""), 2));
}

function interleave(data, version) {
  const [check, count] = [CHECK[version - 1], BLOCKS[version - 1]];
  const total = Math.floor(room(version) / 8);
  const short = Math.floor(total / count) - check;
  const long = total % count;
  const divisor = generator(check);
  const blocks = [];
  for (let place = 0, at = 0; place < count; place += 1) {
    const length = short + (place < count - long ? 0 : 1);
    const part = data.slice(at, at + length);
    blocks.push({ part, rest: remainder(part, divisor) });
    at += length;
  }
  const mixed = [];
  for (let at = 0; at <= short; at += 1) blocks.forEach(({ part }) => at < part.length && mixed.push(part[at]));
  for (let at = 0; at < check; at += 1) blocks.forEach(({ rest }) => mixed.push(rest[at]));
  return mixed;
}

// Arithmetic in GF(2^8) with the polynomial 0x11d.
function multiply(x, y) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((y >> bit) & 1) * x;
  }
  return product;
}

function generator(degree) {
  const result = Array(degree).fill(0);
  result[degree - 1] = 1;
  for (let step = 0, root = 1; step < degree; step += 1, root = multiply(root, 2)) {
    for (let at = 0; at < degree; at += 1) result[at] = multiply(result[at], root) ^ (result[at + 1] ?? 0);
  }
  return result;
}

function remainder(data, divisor) {
  const rest = divisor.map(() => 0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    divisor.forEach((value, at) => (rest[at] ^= multiply(value, factor)));
  }
  return rest;
}

/** The fixed patterns; `null` where data goes. */
function frame(version) {
  const size = version * 4 + 17;
  const grid = Array.from({ length: size }, () => Array(size).fill(null));
  const set = (x, y, dark) => {
    if (x >= 0 && y >= 0 && x < size && y < size) grid[y][x] = Boolean(dark);
  };
  for (let at = 0; at < size; at += 1) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  for (const [cx, cy] of [[3, 3], [size - 4, 3], [3, size - 4]]) {
    for (let dy = -4; dy <= 4; dy += 1) {
      for (let dx = -4; dx <= 4; dx += 1) {
        const ring = Math.max(Math.abs(dx), Math.abs(dy));
        set(cx + dx, cy + dy, ring !== 2 && ring !== 4);
      }
    }
  }
  const marks = alignment(version, size);
  const last = marks.length - 1;
  marks.forEach((cx, i) => marks.forEach((cy, j) => {
    if ((i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0)) return;
    for (let dy = -2; dy <= 2; dy += 1) {
      for (let dx = -2; dx <= 2; dx += 1) set(cx + dx, cy + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
    }
  }));
  format(set, size, 0);
  if (version >= 7) {
    let rest = version;
    for (let step = 0; step < 12; step += 1) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
    const bits = (version << 12) | rest;
    for (let bit = 0; bit < 18; bit += 1) {
      const [near, far] = [Math.floor(bit / 3), size - 11 + (bit % 3)];
      set(far, near, (bits >> bit) & 1);
      set(near, far, (bits >> bit) & 1);
    }
  }
  return grid;
}

function alignment(version, size) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = Math.floor((version * 8 + count * 3 + 5) / (count * 4 - 4)) * 2;
  return [6, ...Array.from({ length: count - 1 }, (_, place) => size - 7 - (count - 2 - place) * step)];
}

function format(set, size, mask) {
  let rest = mask; // level M is 00
  for (let step = 0; step < 10; step += 1) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
  const bits = ((mask << 10) | rest) ^ 0x5412;
  const at = (bit) => (bits >> bit) & 1;
  for (let bit = 0; bit <= 5; bit += 1) set(8, bit, at(bit));
  set(8, 7, at(6));
  set(8, 8, at(7));
  set(7, 8, at(8));
  for (let bit = 9; bit < 15; bit += 1) set(14 - bit, 8, at(bit));
  for (let bit = 0; bit < 8; bit += 1) set(size - 1 - bit, 8, at(bit));
  for (let bit = 8; bit < 15; bit += 1) set(8, size - 15 + bit, at(bit));
  set(8, size - 8, true);
}

function place(grid, bytes) {
  const size = grid.length;
  let bit = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step += 1) {
      for (const x of [right, right - 1]) {
        const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
        if (grid[y][x] !== null) continue;
        grid[y][x] = bit < bytes.length * 8 ? (bytes[bit >> 3] >> (7 - (bit & 7))) & 1 : 0; // a number is data
        bit += 1;
      }
    }
  }
}

function masked(grid, mask) {
  const result = grid.map((row, y) => row.map((cell, x) => (typeof cell === "number" ? Boolean(cell ^ (MASKS[mask](x, y) === 0)) : cell)));
  format((x, y, dark) => (result[y][x] = Boolean(dark)), grid.length, mask);
  return result;
}

function penalty(grid) {
  const size = grid.length;
  let score = 0;
  let dark = 0;
  for (const lines of [grid, grid.map((_, x) => grid.map((row) => row[x]))]) {
    for (const line of lines) {
      const text = line.map(Number).join("");
      for (const run of text.match(/0{5,}|1{5,}/g) ?? []) score += run.length - 2;
      for (const like of ["10111010000", "00001011101"]) {
        for (let at = text.indexOf(like); at >= 0; at = text.indexOf(like, at + 1)) score += 40;
      }
    }
  }
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      dark += Number(grid[y][x]);
      const square = y && x && grid[y][x] === grid[y - 1][x] && grid[y][x] === grid[y][x - 1] && grid[y][x] === grid[y - 1][x - 1];
      if (square) score += 3;
    }
  }
  return score + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}
