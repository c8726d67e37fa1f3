// The page walk: a player, and above it a form that asks the MMU for one more access. Python answers with new steps.
function mountPageWalk(model, el) {
  const first = model.get("data");
  const options = (names) => names.map((name) => element("option", { value: name }, name));
  const labelled = (words, field) => element("label", {}, element("span", {}, words), field);
  const address = element("input", { type: "text", spellcheck: "false", autocomplete: "off", size: first.digits + 3,
    value: first.address, "data-testid": "walk-address", "aria-describedby": "" });
  const what = element("select", { "data-testid": "walk-what" }, ...options(first.accesses));
  const who = element("select", { "data-testid": "walk-who" }, ...options(first.modes));
  const stride = element("select", { "data-testid": "walk-stride" },
    ...first.strides.map(([name, bytes]) => element("option", { value: bytes }, name)));
  const said = element("p", { class: "kml-told", role: "status", "aria-live": "polite", "data-testid": "walk-status" });
  const button = (id, label, name, act) => {
    const made = element("button", { type: "button", "aria-label": name, title: name, "data-testid": `walk-${id}` }, label);
    made.addEventListener("click", act);
    return made;
  };

  let asked = 0, timer = 0;
  const ask = (request) => {
    said.textContent = "";
    clearTimeout(timer);
    // Where no Python answers, say so: the steps below still play.
    timer = setTimeout(() => { said.textContent = "Nobody answers: a new address needs a running Python. The steps below play without it."; }, 3000);
    model.set("asked", { ...request, number: ++asked, when: Date.now() });
    model.save_changes();
  };
  const access = () => ask({ address: address.value, what: what.value, who: who.value });
  const shift = (way) => {
    const digits = address.value.trim().replace(/^0x/i, "").replaceAll("_", "");
    if (!/^[0-9a-f]+$/i.test(digits)) { said.textContent = "Write the address as a hexadecimal number."; return; }
    const bits = BigInt(4 * first.digits);
    const moved = BigInt.asUintN(Number(bits), BigInt(`0x${digits}`) + BigInt(way) * BigInt(stride.value));
    address.value = `0x${moved.toString(16).padStart(first.digits, "0")}`;
    access();
  };
  address.addEventListener("keydown", (event) => {
    const act = { Enter: access, ArrowUp: () => shift(1), ArrowDown: () => shift(-1) }[event.key];
    event.stopPropagation();
    if (!act) return;
    event.preventDefault();
    act();
  });
  const form = element("div", { class: "kml-form", role: "group", "aria-label": "one more access", "data-lm-suppress-shortcuts": "true" },
    labelled("address", address), labelled("access", what), labelled("by", who),
    button("access", "access", "do this access (Enter)", access),
    button("down", "▼", "one step down (arrow down in the address)", () => shift(-1)),
    button("up", "▲", "one step up (arrow up in the address)", () => shift(1)),
    labelled("by steps of", stride),
    button("flush", "flush TLB", "let the TLB forget everything", () => ask({ flush: true })));

  const inner = element("div", {});
  let off = () => {};
  const remount = () => {
    clearTimeout(timer);
    off();
    inner.replaceChildren();
    off = mountPlayer(model, inner);
  };
  const problem = () => { clearTimeout(timer); said.textContent = model.get("problem"); };
  el.append(element("div", { class: "kml kml-walk", "data-testid": "walk" }, form, said), inner);
  model.on("change:data", remount);
  model.on("change:problem", problem);
  remount();
  return () => { clearTimeout(timer); off(); model.off("change:data", remount); model.off("change:problem", problem); };
}
