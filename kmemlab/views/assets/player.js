// The player: every step came with the page, so a move asks nobody. `cursor` is the only thing that changes.
function mountPlayer(model, el) {
  const data = model.get("data");
  const steps = data.steps, last = steps.length - 1;
  const text = (i) => data.texts[i];
  const root = element("div", { class: "kml kml-player", tabindex: "0", role: "group", "aria-label": data.title,
    "data-testid": "player", "data-lm-suppress-shortcuts": "true" });
  const stages = element("ol", { class: "kml-stages", "aria-label": "where we are between power-on and running" },
    ...data.stages.map((name, i) => element("li", i === data.stage ? { class: "kml-here", "aria-current": "step" } : {}, name)));
  const said = element("p", { class: "kml-said", "aria-live": "polite", "data-testid": "player-sentence" });
  const figure = element("figure", { class: "kml-figure", role: "img", "data-testid": "player-figure" });
  const plain = element("pre", { class: "kml-plain", "data-testid": "player-text", hidden: "" });
  const words = element("div", { class: "kml-words" });
  const section = (id, title) => {
    const head = element("h4", {}, title), box = element("pre", { "data-testid": id });
    words.append(element("section", {}, head, box));
    return { head, box };
  };
  const source = section("player-source", "kernel function");
  const tree = section("player-calls", data.treeName);
  const proc = section("player-proc", data.procName);
  // Linux prints some wide tables: they get the whole width, below.
  const wide = Math.max(...steps.map((s) => Math.max(...text(s.proc).split("\n").map((line) => line.length)))) > 88;
  if (wide) proc.box.parentElement.classList.add("kml-wide");
  const changed = section("player-changed", "what changed");

  // -- the picture
  const picture = data.picture;
  let paint;
  if (picture.kind === "frames") {
    const frames = new Frames(picture);
    const canvas = element("canvas", { "data-testid": "player-canvas", "aria-hidden": "true" });
    const legend = element("div", {}), key = element("span", {});
    const window = `page frames ${picture.start} to ${picture.start + picture.count - 1}, ${picture.columns} in a row`;
    const free = steps[0].counts ? "free blocks of the zone by order" : "free blocks by order";
    figure.append(element("h4", { class: "kml-window" }, window), canvas,
      element("div", { class: "kml-caption" }, element("b", {}, free), key), legend);
    paint = (step) => {
      const focus = steps[step].focus;
      const box = focus ? { at: focus[0] - picture.start, size: 2 ** focus[1] } : null;
      const cells = frames.go(step);
      drawFrames(canvas, cells, picture.columns, 512, data.orders, box);
      key.textContent = `   (${keyOf(cells, picture.columns > 128)})`;
      legend.replaceChildren(legendOf(data.orders, steps[step].counts || countHeads(cells, data.orders)));
    };
  } else {
    const holder = element("div", { class: "kml-svg" });
    figure.append(holder);
    paint = (step) => {
      const shot = picture.frames[step];
      holder.innerHTML = `<svg xmlns="http://www.w3.org/2000/svg" width="${shot[0]}" height="${shot[1]}" viewBox="0 0 ${shot[0]} ${shot[1]}" aria-hidden="true">`
        + picture.defs + shot.slice(2).map((i) => picture.elements[i]).join("") + "</svg>";
    };
  }

  // -- the words
  const lines = (box, list, mark) => {
    const made = list.map((line, i) => {
      const row = element("span", { class: i === mark ? "kml-line kml-now" : "kml-line" }, line || " ");
      if (i === mark) row.setAttribute("aria-current", "true");
      return row;
    });
    box.replaceChildren(...made);
    const now = made[mark];
    if (now) box.scrollTop = now.offsetTop - box.offsetTop - box.clientHeight / 2;
  };
  const show = () => {
    const at = Math.max(0, Math.min(last, model.get("cursor"))), step = steps[at];
    root.dataset.step = at;
    figure.setAttribute("aria-label", text(step.alt));
    said.replaceChildren(element("b", {}, `Step ${at + 1} of ${steps.length}. `), ...sentence(text(step.said)));
    paint(at);
    const shown = data.sources[step.source];
    source.box.parentElement.hidden = !shown;
    if (shown) {
      source.head.replaceChildren("kernel function ", element("span", {}, ` ·  ${shown.title}`));
      lines(source.box, shown.lines, step.line);
    }
    const calls = step.stack.map(text);
    lines(tree.box, calls, calls.length - 1);
    proc.box.parentElement.hidden = !text(step.proc) || !plain.hidden;
    lines(proc.box, text(step.proc).split("\n"), -1);
    fit();
    lines(changed.box, step.changed.length ? step.changed.map(text) : ["nothing"], -1);
    plain.textContent = textOf(at);
    slider.value = at;
    slider.setAttribute("aria-valuetext", `step ${at + 1} of ${steps.length}`);
    count.textContent = `${at + 1} / ${steps.length}`;
    for (const [name, button] of Object.entries(buttons)) button.disabled = moves[name] ? moves[name](at) === at : false;
  };
  const textOf = (at) => {
    const step = steps[at], shown = data.sources[step.source];
    const parts = [`Step ${at + 1} of ${steps.length}. ${text(step.said).replaceAll("`", "")}`, "", text(step.alt)];
    if (shown) parts.push("", shown.title, ...shown.lines.map((line, i) => (i === step.line ? "> " : "  ") + line));
    parts.push("", data.treeName, ...step.stack.map((i) => `  ${text(i)}`));
    if (text(step.proc)) parts.push("", data.procName, ...text(step.proc).split("\n").map((line) => `  ${line}`));
    parts.push("", "what changed", ...(step.changed.length ? step.changed.map((i) => `  ${text(i)}`) : ["  nothing"]));
    return parts.join("\n");
  };

  // A box's text is set a little smaller before it is cut; what is still too wide scrolls.
  const boxes = [[source.box, 11], [tree.box, 10.5], [proc.box, 9.5], [changed.box, 10.5]];
  const fit = () => {
    for (const [box, least] of boxes) {
      const widest = Math.max(1, ...[...box.children].map((line) => line.textContent.length));
      box.style.fontSize = `${Math.max(least, Math.min(12, (box.clientWidth - 22) / widest / 0.605))}px`;
    }
  };

  // -- moving
  const find = (at, way, accept) => { let i = at + way; while (i > 0 && i < last && !accept(steps[i])) i += way; return Math.max(0, Math.min(last, i)); };
  const moves = {
    first: () => 0,
    back: (at) => Math.max(0, at - 1),
    step: (at) => Math.min(last, at + 1),
    over: (at) => find(at, 1, (s) => s.depth <= steps[at].depth),
    out: (at) => find(at, 1, (s) => s.depth < steps[at].depth),
    last: () => last,
    backOver: (at) => find(at, -1, (s) => s.depth <= steps[at].depth),
  };
  const go = (at) => {
    if (at === model.get("cursor")) return;
    model.set("cursor", at);
    model.save_changes();
    show();
  };
  const move = (name) => { stop(); go(moves[name](model.get("cursor"))); };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "play"; play.setAttribute("aria-pressed", "false"); };
  const toggle = () => {
    if (timer) return stop();
    if (model.get("cursor") === last) go(0);
    play.textContent = "pause";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => { const at = model.get("cursor"); if (at === last) stop(); else go(at + 1); }, 900);
  };
  const showText = () => {
    plain.hidden = !plain.hidden;
    figure.hidden = words.hidden = !plain.hidden;
    proc.box.parentElement.hidden = !plain.hidden || !text(steps[model.get("cursor")].proc);
    textButton.setAttribute("aria-pressed", String(!plain.hidden));
  };
  const save = (what) => {
    menu.hidden = true;
    root.focus();
    const name = `step-${model.get("cursor") + 1}`, canvas = figure.querySelector("canvas");
    if (what === "text") saveAs(`${name}.txt`, new Blob([textOf(model.get("cursor")) + "\n"], { type: "text/plain" }));
    else if (canvas) canvas.toBlob((blob) => saveAs(`${name}.png`, blob));
    else saveAs(`${name}.svg`, new Blob([figure.querySelector("svg").outerHTML], { type: "image/svg+xml" }));
  };

  // -- the controls
  const button = (id, label, name, act) => {
    const made = element("button", { type: "button", "aria-label": name, title: name, "data-testid": `player-${id}` }, label);
    made.addEventListener("click", act);
    return made;
  };
  const buttons = {
    first: button("first", "|◀", "first step (Home)", () => move("first")),
    back: button("back", "◀ step", "step back (left arrow)", () => move("back")),
    step: button("step", "step ▶", "step (right arrow)", () => move("step")),
    over: button("over", "over ▶", "step over calls (shift and right arrow)", () => move("over")),
    out: button("out", "out ▶", "until this function has returned (up arrow)", () => move("out")),
    last: button("last", "▶|", "last step (End)", () => move("last")),
  };
  const play = button("play", "play", "play or pause (space)", toggle);
  const textButton = button("text-toggle", "text", "the same facts as text (T)", showText);
  const menu = element("div", { class: "kml-menu", role: "menu", hidden: "" },
    button("save-picture", "picture", "save the picture", () => save("picture")), button("save-text", "text", "save the text", () => save("text")));
  const saveButton = button("save", "save ▾", "save this step (S)", () => { menu.hidden = !menu.hidden; if (!menu.hidden) menu.firstChild.focus(); });
  const slider = element("input", { type: "range", min: 0, max: last, step: 1, "aria-label": "timeline", "data-testid": "player-slider" });
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  const count = element("output", { class: "kml-count", "data-testid": "player-count" });
  const many = last > 240;
  const ticks = steps.map((s, i) => (many && s.tick < 2 ? "" : `<i class="kml-tick${s.tick}" style="left:${last ? (100 * i) / last : 0}%"></i>`)).join("");
  const scale = element("div", { class: "kml-ticks", "aria-hidden": "true" });
  scale.innerHTML = ticks;
  const bar = element("div", { class: "kml-bar" }, ...Object.values(buttons), play,
    element("div", { class: "kml-timeline" }, scale, slider), count, textButton, element("span", { class: "kml-save" }, saveButton, menu));
  root.append(stages, said, element("div", { class: "kml-body" }, figure, words, ...(wide ? [proc.box.parentElement] : []), plain), bar);
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const onButton = event.target.tagName === "BUTTON";
    const acts = {
      ArrowLeft: () => move(event.shiftKey ? "backOver" : "back"), ArrowRight: () => move(event.shiftKey ? "over" : "step"),
      ArrowUp: () => move("out"), Home: () => move("first"), End: () => move("last"), " ": toggle,
      t: showText, T: showText, s: () => save("picture"), S: () => save("picture"),
      Escape: () => { if (!menu.hidden) { menu.hidden = true; saveButton.focus(); } else { stop(); document.activeElement.blur(); } },
    };
    const act = acts[event.key];
    if (!act || (onButton && event.key === " ")) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  el.append(root);
  model.on("change:cursor", show);
  const off = whenThemeChanges(show);
  const resized = new ResizeObserver(fit);
  resized.observe(root);
  show();
  return () => { stop(); off(); resized.disconnect(); model.off("change:cursor", show); };
}
