// The frame map: all cells on one canvas; arrow keys move, and the cell is spoken.
function mountFrameMap(model, el) {
  const data = model.get("data");
  const frames = new Frames(data);
  const cells = frames.go(0);
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
    return `pfn ${pfn} (address 0x${(pfn * 4096).toString(16)}): ${cellText(cells[at])}${where}`;
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
  const draw = () => { drawFrames(canvas, cells, columns, side, data.orders, null); mark(); };
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
  root.append(element("h4", {}, data.title), holder, told,
    element("div", { class: "kml-caption" }, element("b", {}, "free blocks by order"), `   (${keyOf(cells, cell < 4)}; arrow keys move, with shift by block)`),
    legendOf(data.orders, countHeads(cells, data.orders)));
  el.append(root);
  model.on("change:cursor", mark);
  const off = whenThemeChanges(draw);
  draw();
  return () => { off(); model.off("change:cursor", mark); };
}
