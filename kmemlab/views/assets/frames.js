// Page frames on a canvas: one byte a frame, as kmemlab/machine/snapshot.py defines it.
const ORDER_MASK = 0x0f, HEAD = 0x10, IN_USE = 0x20, RESERVED = 0x40, HOLE = 0x80;

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Runs of (skip, length, value); skip and length are little-endian numbers of 7 bits a byte.
function applyRuns(cells, text) {
  const bytes = bytesOf(text);
  let at = 0, cell = 0;
  const number = () => {
    let value = 0, scale = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte & 128);
    return value;
  };
  while (at < bytes.length) {
    cell += number();
    const end = cell + number();
    cells.fill(bytes[at++], cell, end);
    cell = end;
  }
}

// Keyframes and deltas: going on applies one delta, any other move starts from the keyframe before.
class Frames {
  constructor(data) {
    this.data = data;
    this.cells = new Uint8Array(data.count);
    this.at = -1;
  }
  go(step) {
    let from = step;
    if (step !== this.at + 1 || this.data.frames[step].key !== undefined) {
      if (step === this.at) return this.cells;
      while (this.data.frames[from].key === undefined) from--;
      this.cells.fill(0);
      applyRuns(this.cells, this.data.frames[from].key);
      from++;
    }
    for (; from <= step; from++) applyRuns(this.cells, this.data.frames[from].delta);
    this.at = step;
    return this.cells;
  }
}

function cellText(cell) {
  if (cell & HOLE) return "hole";
  if (cell & RESERVED) return "reserved";
  if (cell === (IN_USE | ORDER_MASK)) return "free, on a CPU's list";
  if (cell & IN_USE) return cell & (HEAD | ORDER_MASK) ? `in use, order ${cell & ORDER_MASK}` : "in use";
  return `free, order ${cell & ORDER_MASK}`;
}

function lookOf(element) {
  const style = getComputedStyle(element);
  const of = (name, other) => style.getPropertyValue(name).trim() || other;
  return {
    used: of("--kml-used", "#d9dde3"), hatch: of("--kml-hatch", "#a9b1bd"), paper: of("--kml-paper", "#ffffff"),
    line: of("--kml-line", "#8c959f"), now: of("--kml-now-line", "#000000"), edge: of("--kml-edge", "#1f2328"),
    reserved: of("--kml-reserved", "#c3c9d2"), mono: of("--kml-mono", "monospace"),
  };
}

function hatchOf(context, look, scale) {
  const tile = document.createElement("canvas");
  const size = 6 * scale;
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.fillStyle = look.used;
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = look.hatch;
  pen.lineWidth = scale * 0.8;
  pen.beginPath();
  for (const shift of [-size, 0, size]) { pen.moveTo(shift, size); pen.lineTo(shift + size, 0); }
  pen.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(1 / scale));
  return pattern;
}

// Draws all cells; `box` is the outlined block {at, size}, if any. Returns nothing, keeps nothing.
function drawFrames(canvas, cells, columns, side, orders, box) {
  const rows = Math.ceil(cells.length / columns);
  const cell = side / columns;
  const scale = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
  const width = side + 4, height = rows * cell + 4;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const look = lookOf(canvas);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 2 * scale, 2 * scale);
  pen.clearRect(-2, -2, width, height);
  const hatch = hatchOf(pen, look, scale);
  pen.fillStyle = cell < 4 ? look.used : hatch;
  pen.fillRect(0, 0, side, rows * cell);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = `11px ${look.mono}`;
  const piece = (at, count, paint) => {
    const end = at + count;
    while (at < end) {
      const column = at % columns;
      const whole = column === 0 ? Math.floor((end - at) / columns) : 0;
      const across = whole ? columns : Math.min(columns - column, end - at);
      paint(column * cell, Math.floor(at / columns) * cell, across * cell, Math.max(1, whole) * cell);
      at += whole ? whole * columns : across;
    }
  };
  for (let at = 0; at < cells.length;) {
    const value = cells[at];
    if (value & (IN_USE | RESERVED | HOLE)) {
      const kind = value & (IN_USE | RESERVED | HOLE);
      let end = at + 1;
      while (end < cells.length && (cells[end] & kind)) end++;
      if (kind & IN_USE) {
        // Hatching single tiny cells would only flicker.
        if (cell < 4 && end - at >= columns) {
          pen.fillStyle = hatch;
          piece(at, end - at, (x, y, w, h) => pen.fillRect(x, y, w, h));
        }
      } else {
        pen.fillStyle = kind & HOLE ? look.paper : look.reserved;
        piece(at, end - at, (x, y, w, h) => pen.fillRect(x, y, w, h));
      }
      at = end;
      continue;
    }
    const order = value & ORDER_MASK;
    const size = 1 << order;
    const count = Math.min(size, cells.length - at);
    piece(at, count, (x, y, w, h) => {
      pen.fillStyle = orders[order];
      pen.fillRect(x, y, w, h);
      if (w >= 4 && h >= 4) {
        pen.strokeStyle = cell < 4 && order > 5 ? "#8d9bb5" : look.edge;
        pen.lineWidth = cell < 4 ? 0.5 : 0.8;
        pen.strokeRect(x, y, w, h);
      }
      if (w >= 13 && h >= 13) {
        pen.fillStyle = order < 6 ? "#111827" : "#ffffff";
        pen.fillText(String(order), x + w / 2, y + h / 2 + 1);
      }
    });
    at += count;
  }
  pen.strokeStyle = look.line;
  pen.lineWidth = 1;
  pen.strokeRect(0, 0, side, rows * cell);
  if (box && box.at >= 0 && box.at < cells.length) {
    pen.lineWidth = 3;
    piece(box.at, Math.min(box.size, cells.length - box.at), (x, y, w, h) => {
      pen.strokeStyle = look.paper;
      pen.lineWidth = 5;
      pen.strokeRect(x, y, w, h);
      pen.strokeStyle = look.now;
      pen.lineWidth = 3;
      pen.strokeRect(x, y, w, h);
    });
  }
}

function whenThemeChanges(redraw) {
  const watch = new MutationObserver(redraw);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", redraw);
  return () => { watch.disconnect(); media.removeEventListener("change", redraw); };
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// `name` in a sentence becomes a code element; everything else is text.
function sentence(text) {
  return text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : document.createTextNode(part)));
}

function saveAs(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function legendOf(orders, counts) {
  const chips = orders.map((colour, order) => element("span", { class: "kml-chip" },
    element("i", { style: `background:${colour};color:${order < 6 ? "#111827" : "#fff"}` }, String(order)), String(counts[order])));
  return element("div", { class: "kml-legend" }, ...chips);
}

// The hatching and greys of a map in words.
function keyOf(cells, fine) {
  const used = fine ? "grey: in use" : "hatched: in use";
  return cells.some((cell) => cell & RESERVED && !(cell & HOLE)) ? `${used}; darker grey: kept by boot` : used;
}

// How many free blocks of each order begin in the window.
function countHeads(cells, orders) {
  const counts = orders.map(() => 0);
  for (const cell of cells) if ((cell & HEAD) && cell < IN_USE) counts[cell & ORDER_MASK]++;
  return counts;
}
