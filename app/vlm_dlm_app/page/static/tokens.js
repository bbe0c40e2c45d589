// Tokens as coloured text: what each was, when it was fixed, how sure the model was.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.tokens = (() => {
  const { make, duration, ROW } = vlmDlm.parts;
  const ORIGINS = {
    ar: "written one at a time",
    unmasked: "filled in for a mask",
    drafted: "drafted and accepted",
    corrected: "draft refused, corrected",
    bonus: "came free with the check",
  };
  const NUM_STEP_SHADES = 6;
  const SURE_FROM = [0.5, 0.8, 0.95, 0.99]; // below the first is shade 0
  const SURE_WORDS = ["under 50 %", "50 to 80 %", "80 to 95 %", "95 to 99 %", "99 % and more"];
  const rowOf = new WeakMap();

  /** Shade of a confidence, 0 the least sure. */
  function sureShade(confidence) {
    return SURE_FROM.filter((limit) => confidence >= limit).length;
  }

  /** Shade of a forward pass among `last`, 0 the earliest. */
  function stepShade(step, last) {
    return last < 1 ? 0 : Math.min(NUM_STEP_SHADES - 1, Math.floor((NUM_STEP_SHADES * step) / (last + 1)));
  }

  /** The span of one row. */
  function span(row) {
    const element = make("span", "vd-token", row[ROW.TEXT] ?? "");
    element.tabIndex = -1;
    element.dataset.origin = row[ROW.ORIGIN];
    element.dataset.sure = sureShade(row[ROW.CONFIDENCE] ?? 1);
    rowOf.set(element, row);
    return element;
  }

  /** All token spans of a container, in order. */
  function spans(container) {
    return [...container.querySelectorAll(".vd-token")];
  }

  /** Add rows after those already there. */
  function append(container, rows, last) {
    const parts = document.createDocumentFragment();
    for (const row of rows) {
      const element = span(row);
      if (last !== undefined) element.dataset.step = stepShade(row[ROW.STEP] ?? 0, last);
      parts.append(element);
    }
    container.append(parts);
  }

  /** Choose what colours mean; `last`: the step that gets the last shade. */
  function paint(container, colorBy, last) {
    container.dataset.color = colorBy;
    if (colorBy !== "step") return;
    const all = spans(container);
    const end = last ?? all.reduce((most, element) => Math.max(most, rowOf.get(element)[ROW.STEP] ?? 0), 0);
    for (const element of all) {
      const shade = String(stepShade(rowOf.get(element)[ROW.STEP] ?? 0, end));
      if (element.dataset.step !== shade) element.dataset.step = shade;
    }
  }

  /** Show exactly these rows. */
  function render(container, rows, { colorBy = "origin", label = "Tokens" } = {}) {
    prepare(container, label);
    container.replaceChildren();
    append(container, rows);
    paint(container, colorBy);
  }

  /** Show a block that is being written; null is a mask. Spans are used again, frame by frame. */
  function draft(container, texts) {
    while (container.childElementCount > texts.length) container.lastElementChild.remove();
    texts.forEach((text, i) => {
      const element = container.children[i] ?? container.appendChild(make("span"));
      const className = text === null ? "vd-mask" : "vd-draft";
      if (element.className !== className) element.className = className;
      const shown = text ?? "";
      if (element.textContent !== shown) element.textContent = shown;
    });
  }

  /** One swatch and its words. */
  function key(className, data, words) {
    const item = make("span", "vd-key");
    const swatch = make("span", className, className === "vd-draft" ? "abc" : "");
    Object.assign(swatch.dataset, data);
    swatch.setAttribute("aria-hidden", "true");
    item.append(swatch, make("span", "", words));
    return item;
  }

  /** What the colours mean. */
  function legend(container, colorBy, { origins = Object.keys(ORIGINS), withDraft = true } = {}) {
    const keys = [];
    if (colorBy === "origin") {
      for (const name of origins) keys.push(key("vd-token vd-swatch", { origin: name }, ORIGINS[name] ?? name));
    } else if (colorBy === "step") {
      const ramp = make("span", "vd-ramp");
      for (let i = 0; i < NUM_STEP_SHADES; i += 1) ramp.append(key("vd-token vd-swatch", { step: i }, "").firstChild);
      const item = make("span", "vd-key");
      item.append(make("span", "", "first forward pass"), ramp, make("span", "", "last"));
      keys.push(item);
    } else if (colorBy === "differences") {
      for (const [name, sample, words] of [
        ["vd-added", "abc", "not the same in AR"],
        ["vd-lost", "abc", "AR has this instead"],
      ]) {
        const item = make("span", "vd-key");
        item.append(make(name === "vd-lost" ? "del" : "span", name, sample), make("span", "", words));
        keys.push(item);
      }
    } else {
      keys.push(...SURE_WORDS.map((words, i) => key("vd-token vd-swatch", { sure: i }, words)));
    }
    if (withDraft) keys.push(key("vd-draft", {}, "draft"), key("vd-mask", {}, "mask"));
    container.dataset.color = colorBy;
    container.classList.add("vd-legend");
    container.replaceChildren(...keys);
  }

  /** Lines of the tooltip. */
  function facts(row) {
    const [origin, confidence, margin] = [row[ROW.ORIGIN], row[ROW.CONFIDENCE], row[ROW.MARGIN]];
    const [time, forwards] = [row[ROW.TIME], row[ROW.FORWARDS]];
    const lines = [
      ["token", JSON.stringify(row[ROW.TEXT] ?? "")],
      ["origin", ORIGINS[origin] ?? origin],
    ];
    lines.push(["step", String(row[ROW.STEP])], ["block", String(row[ROW.BLOCK] + 1)]);
    if (confidence != null) lines.push(["confidence", `${(100 * confidence).toFixed(confidence > 0.9995 ? 0 : 1)} %`]);
    if (margin != null) lines.push(["margin", `${Number(margin).toPrecision(3)} to the second best logit`]);
    if (time != null) lines.push(["time", `${duration(time)}${forwards == null ? "" : `, ${forwards} forwards`}`]);
    return lines;
  }

  let tip = null;

  /** The one tooltip of the page, near `element`. */
  function showTip(element) {
    const row = rowOf.get(element);
    if (!row) return;
    const home = element.closest(".vd") ?? document.body;
    if (!tip) {
      tip = make("div", "vd-tip");
      tip.id = "vd-tip";
      tip.setAttribute("role", "tooltip");
    }
    if (tip.parentNode !== home) home.append(tip);
    const list = make("dl");
    for (const [name, value] of facts(row)) list.append(make("dt", "", name), make("dd", "", value));
    tip.replaceChildren(list);
    tip.hidden = false;
    element.setAttribute("aria-describedby", tip.id);
    const box = element.getClientRects()[0] ?? element.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, window.innerWidth - tip.offsetWidth - 8));
    const below = box.bottom + 6;
    const fits = below + tip.offsetHeight < window.innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${fits ? below : box.top - tip.offsetHeight - 6}px`;
  }

  /** Take the tooltip away. */
  function hideTip() {
    if (tip) tip.hidden = true;
  }

  /** The token above or below, by where they stand. */
  function vertical(all, from, direction) {
    const box = from.getBoundingClientRect();
    const line = all.filter((element) => {
      const other = element.getBoundingClientRect();
      return other.width > 0 && direction * (other.top - box.top) > box.height / 2;
    });
    const distance = (element) => {
      const other = element.getBoundingClientRect();
      return Math.abs(other.top - box.top) * 1000 + Math.abs(other.left - box.left);
    };
    return line.reduce((best, element) => (!best || distance(element) < distance(best) ? element : best), null);
  }

  /** Arrow keys go from token to token. */
  function onKey(event) {
    const container = event.currentTarget;
    if (event.key === "Escape") return hideTip();
    const all = spans(container).filter((element) => element.textContent);
    const at = all.indexOf(document.activeElement);
    let next = null;
    if (event.key === "ArrowRight") next = all[Math.min(at + 1, all.length - 1)];
    else if (event.key === "ArrowLeft") next = all[Math.max(at - 1, 0)];
    else if (event.key === "Home") next = all[0];
    else if (event.key === "End") next = all[all.length - 1];
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      next = at < 0 ? all[0] : vertical(all, all[at], event.key === "ArrowDown" ? 1 : -1);
    } else return undefined;
    event.preventDefault();
    next?.focus();
    return undefined;
  }

  /** Make a container answer to pointer and keys, once. */
  function prepare(container, label) {
    container.setAttribute("role", "group");
    container.setAttribute("aria-label", `${label}. Arrow keys go from token to token.`);
    container.classList.add("vd-tokens");
    if (container.dataset.isReady) return;
    container.dataset.isReady = "yes";
    container.tabIndex = 0;
    const show = (event) => event.target.classList?.contains("vd-token") && showTip(event.target);
    container.addEventListener("pointerover", show);
    container.addEventListener("focusin", show);
    container.addEventListener("pointerleave", hideTip);
    container.addEventListener("focusout", hideTip);
    container.addEventListener("keydown", onKey);
  }

  return { ORIGINS, prepare, render, append, paint, draft, legend, spans, row: (element) => rowOf.get(element) };
})();
