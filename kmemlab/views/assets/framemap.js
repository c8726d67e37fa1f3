// The frame map: all cells on one canvas; arrow keys move, and the cell is spoken. Buttons choose what colours tell.
const DOT = 2; // pixels; a pattern has 4 by 4 dots

// One map by kind: what each frame's number means, and how it looks. `paint` fills a canvas of dots.
class Kinds {
  constructor(data, count) {
    Object.assign(this, data);
    this.of = new Uint8Array(count);
    applyRuns(this.of, data.cells);
  }
  paint(columns, rows, side) {
    const wide = side / DOT / columns, across = side / DOT, tile = document.createElement("canvas");
    tile.width = across;
    tile.height = rows * wide;
    const pen = tile.getContext("2d"), image = pen.createImageData(tile.width, tile.height);
    const out = new Uint32Array(image.data.buffer), looks = this.looks.map(dotsOf), last = this.looks.length - 1;
    for (let y = 0; y < tile.height; y++) {
      const first = Math.floor(y / wide) * columns;
      for (let x = 0; x < across; x++) {
        const at = first + Math.floor(x / wide);
        out[y * across + x] = looks[at < this.of.length ? this.of[at] : last][(y & 3) * 4 + (x & 3)];
      }
    }
    pen.putImageData(image, 0, 0);
    return tile;
  }
  // Runs of a kind, cut into rectangles of whole rows or parts of one.
  *boxes(columns) {
    for (let at = 0; at < this.of.length;) {
      const kind = this.of[at];
      let end = at + 1;
      while (end < this.of.length && this.of[end] === kind) end++;
      while (at < end) {
        const column = at % columns, whole = column === 0 ? Math.floor((end - at) / columns) : 0;
        const across = whole ? columns : Math.min(columns - column, end - at);
        yield { kind, column, row: Math.floor(at / columns), across, down: whole || 1 };
        at += across * (whole || 1);
      }
    }
  }
}

// The sixteen dots of a look as pixels (alpha, blue, green, red); "" lets the paper shine through.
function dotsOf([, base, mark, pattern]) {
  const of = (hex) => !hex ? 0 : (255 << 24 | parseInt(hex.slice(5, 7), 16) << 16 | parseInt(hex.slice(3, 5), 16) << 8 | parseInt(hex.slice(1, 3), 16)) >>> 0;
  return [...pattern].map((dot) => of(dot === "#" ? mark : base));
}

function drawKinds(canvas, kinds, columns, side) {
  const rows = Math.ceil(kinds.of.length / columns), cell = side / columns;
  const scale = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
  canvas.width = Math.round((side + 4) * scale);
  canvas.height = Math.round((rows * cell + 4) * scale);
  const look = lookOf(canvas), pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 2 * scale, 2 * scale);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(kinds.paint(columns, rows, side), 0, 0, side, rows * cell);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = `bold 11px ${look.mono}`;
  for (const box of kinds.boxes(columns)) {
    const [letter, base] = kinds.looks[box.kind];
    if (!letter || box.across * cell < 20 || box.down * cell < 14) continue;
    const x = (box.column + box.across / 2) * cell, y = (box.row + box.down / 2) * cell;
    pen.fillStyle = base;
    pen.fillRect(x - 6, y - 6.5, 12, 13);
    pen.fillStyle = "#1f2328";
    pen.fillText(letter, x, y + 0.5);
  }
  pen.strokeStyle = look.line;
  pen.lineWidth = 1;
  pen.strokeRect(0, 0, side, rows * cell);
}

function legendOfKinds(kinds) {
  const chip = ([letter, base, mark, pattern], name, count) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 4;
    const pen = tile.getContext("2d"), image = pen.createImageData(4, 4);
    new Uint32Array(image.data.buffer).set(dotsOf([letter, base, mark, pattern]));
    pen.putImageData(image, 0, 0);
    const style = `background:url(${tile.toDataURL()}) 0 0/8px 8px; image-rendering:pixelated; width:24px`;
    const inner = letter ? [element("b", { style: `background:${base};color:#1f2328;padding:0 2px` }, letter)] : [];
    return element("span", { class: "kml-chip" }, element("i", { style }, ...inner), `${name} ${count}`);
  };
  const chips = kinds.looks.map((look, kind) => [look, kinds.names[kind], kinds.counts[kind]]).filter((each) => each[2]);
  return element("div", { class: "kml-legend" }, ...chips.map((each) => chip(...each)));
}

function mountFrameMap(model, el) {
  const data = model.get("data");
  const frames = new Frames(data);
  const cells = frames.go(0);
  const maps = (data.kinds || []).map((each) => new Kinds(each, cells.length));
  let shown = maps.find((each) => each.by === data.colour) || null; // null: by order
  const root = element("div", { class: "kml kml-framemap", tabindex: "0", role: "application", "aria-label": data.title,
    "data-testid": "framemap", "data-lm-suppress-shortcuts": "true" });
  const canvas = element("canvas", { "data-testid": "framemap-canvas", "aria-hidden": "true" });
  const top = element("canvas", { class: "kml-over", "aria-hidden": "true" });
  const told = element("p", { class: "kml-said", "aria-live": "polite", "data-testid": "framemap-sentence" });
  const side = 512, columns = data.columns, cell = side / columns, rows = Math.ceil(cells.length / columns);

  // The block that a cell lies in, by its head's cell.
  const blockOf = (at) => {
    const value = cells[at];
    if (value & (RESERVED | HOLE)) return { at, size: 1 };
    if ((value & IN_USE) && !(value & (HEAD | ORDER_MASK))) return { at, size: 1 };
    const size = 1 << (value & ORDER_MASK);
    const first = data.start + at - ((data.start + at) % size) - data.start;
    return { at: Math.max(0, first), size: first < 0 ? size + first : size };
  };
  const describe = (at) => {
    const block = blockOf(at), pfn = data.start + at;
    const where = block.size > 1 ? `, in the block of ${block.size} pages at pfn ${data.start + block.at}` : "";
    const kind = shown ? `; ${shown.by}: ${shown.names[shown.of[at]]}` : "";
    return `pfn ${pfn} (address 0x${(pfn * 4096).toString(16)}): ${cellText(cells[at])}${where}${kind}`;
  };
  const mark = () => {
    const at = Math.max(0, Math.min(cells.length - 1, model.get("cursor"))), block = blockOf(at);
    root.dataset.cursor = at;
    told.textContent = describe(at);
    const scale = canvas.width / (side + 4), look = lookOf(canvas), pen = top.getContext("2d");
    top.width = canvas.width;
    top.height = canvas.height;
    pen.setTransform(scale, 0, 0, scale, 2 * scale, 2 * scale);
    const outline = (from, size) => {
      const across = Math.min(size, columns - (from % columns));
      const down = from % columns === 0 ? Math.max(1, Math.floor(size / columns)) : 1;
      const box = [(from % columns) * cell, Math.floor(from / columns) * cell, across * cell, down * cell];
      pen.strokeStyle = look.paper; pen.lineWidth = 5; pen.strokeRect(...box);
      pen.strokeStyle = look.now; pen.lineWidth = 2.5; pen.strokeRect(...box);
    };
    outline(block.at, block.size);
    pen.fillStyle = look.now;
    const x = (at % columns) * cell + cell / 2, y = Math.floor(at / columns) * cell + cell / 2;
    pen.beginPath();
    pen.arc(x, y, Math.max(2, Math.min(4, cell / 3)), 0, 7);
    pen.fill();
    pen.strokeStyle = look.paper; pen.lineWidth = 1; pen.stroke();
  };
  const draw = () => {
    const since = performance.now();
    if (shown) drawKinds(canvas, shown, columns, side); else drawFrames(canvas, cells, columns, side, data.orders, null);
    mark();
    root.dataset.paintedIn = (performance.now() - since).toFixed(1);
  };
  const legend = element("div", { "data-testid": "framemap-legend" });
  const choose = (by) => {
    shown = maps.find((each) => each.by === by) || null;
    root.dataset.colour = by;
    for (const button of choice.children) button.setAttribute("aria-pressed", String(button.dataset.by === by));
    const keys = "arrow keys move, with shift by block";
    legend.replaceChildren(
      element("div", { class: "kml-caption" }, element("b", {}, shown ? `page frames by ${by}` : "free blocks by order"),
        shown ? `   (${keys})` : `   (${keyOf(cells, cell < 4)}; ${keys})`),
      shown ? legendOfKinds(shown) : legendOf(data.orders, countHeads(cells, data.orders)));
    draw();
  };
  const choice = element("div", { class: "kml-choice", role: "group", "aria-label": "what colours tell" },
    ...["order", ...maps.map((each) => each.by)].map((by) => {
      const button = element("button", { type: "button", "data-by": by, "data-testid": `framemap-by-${by}` }, `by ${by}`);
      button.addEventListener("click", () => choose(by));
      return button;
    }));
  choice.hidden = !maps.length;
  const go = (at) => {
    at = Math.max(0, Math.min(cells.length - 1, at));
    model.set("cursor", at);
    model.save_changes();
    mark();
  };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = model.get("cursor"), block = blockOf(at);
    const to = {
      ArrowLeft: event.shiftKey ? block.at - 1 : at - 1, ArrowRight: event.shiftKey ? block.at + block.size : at + 1,
      ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: cells.length - 1,
      PageUp: at - 16 * columns, PageDown: at + 16 * columns,
    }[event.key];
    if (to === undefined && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") root.blur(); else go(to);
  });
  const holder = element("div", { class: "kml-stack" }, canvas, top);
  holder.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect(), zoom = (side + 4) / box.width;
    const column = Math.floor(((event.clientX - box.left) * zoom - 2) / cell), row = Math.floor(((event.clientY - box.top) * zoom - 2) / cell);
    if (column >= 0 && column < columns && row >= 0 && row < rows) go(row * columns + column);
  });
  root.append(element("h4", {}, data.title), choice, holder, told, legend);
  el.append(root);
  model.on("change:cursor", mark);
  const off = whenThemeChanges(draw);
  choose(shown ? shown.by : "order");
  return () => { off(); model.off("change:cursor", mark); };
}
