// One panel per mode: its state, its canvas, its answer and what it cost.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.panels = (() => {
  const { make, sentence } = vlmDlm.parts,
    { STEP, MARGIN, TEXT } = vlmDlm.parts.ROW;
  const FRAME_MS = 100;
  const MARK = { idle: "", waiting: "○", queued: "○", prompt: "◔", writing: "◑", done: "●", stopped: "■", error: "▲" };

  /** Draws panels together: first all reading, then all writing, so that the page is laid out once. */
  class Frames {
    constructor() {
      this.due = new Set();
      this.last = 0;
      this.timer = null;
    }

    /** Have a panel drawn within 100 ms. */
    ask(panel) {
      this.due.add(panel);
      if (this.timer !== null) return;
      const wait = Math.max(0, FRAME_MS - (performance.now() - this.last));
      this.timer = setTimeout(() => (document.hidden ? this.run() : requestAnimationFrame(() => this.run())), wait);
    }

    /** Draw all that is due. */
    run() {
      if (this.timer === null) return;
      clearTimeout(this.timer);
      this.timer = null;
      this.last = performance.now();
      const due = [...this.due];
      this.due.clear();
      const following = due.filter((panel) => panel.isAtEnd);
      for (const panel of due) panel.draw();
      for (const panel of following) panel.scrollToEnd();
    }
  }

  const frames = new Frames();

  class Panel {
    /** info: {name, title, is_lossless} of a mode; say: what tells screen readers. */
    constructor(info, say) {
      this.info = info;
      this.say = say;
      this.colorBy = "origin";
      this.build();
      this.reset("idle");
    }

    /** The elements. */
    build() {
      this.element = make("article", "vd-panel");
      this.element.dataset.mode = this.info.name;
      if (this.info.color) this.element.style.setProperty("--vd-mode", this.info.color);
      this.chip = make("span", "vd-chip");
      this.badge = make("span", "vd-badge");
      const title = make("h2", "vd-title");
      title.append(make("span", "vd-mode-dot"), this.info.title);
      title.id = `vd-title-${this.info.name}`;
      this.element.setAttribute("aria-labelledby", title.id);
      const head = make("header", "vd-head");
      head.append(title, this.chip);
      this.canvas = make("div", "vd-canvas");
      this.hint = make("p", "vd-hint", sentence(this.info.summary ?? ""));
      this.committed = make("span", "vd-committed");
      this.drafts = make("span", "vd-drafts");
      this.drafts.setAttribute("aria-hidden", "true");
      this.canvas.append(this.hint, this.committed, this.drafts);
      vlmDlm.tokens.prepare(this.canvas, `Answer of ${this.info.title}`);
      this.error = make("div", "vd-error");
      this.card = make("div", "vd-card");
      this.element.append(head, this.canvas, this.error, this.badge, this.card);
    }

    /** Empty, in a state. isQuiet: screen readers have heard this answer. */
    reset(state, isQuiet = false) {
      this.isQuiet = isQuiet;
      this.rows = [];
      this.numShown = 0;
      this.draftTexts = [];
      this.numForwards = 0;
      this.result = null;
      this.unsaid = "";
      this.committed.replaceChildren();
      this.card.replaceChildren();
      this.drafts.replaceChildren();
      this.badge.hidden = true;
      this.error.hidden = true;
      this.error.removeAttribute("role");
      this.setState(state);
    }

    /** state: a key of MARK; words: beside it. */
    setState(state, words = state) {
      this.state = state;
      if (this.element.dataset.state !== state) this.element.dataset.state = state;
      this.chip.textContent = state === "idle" ? "" : `${MARK[state]} ${words}`;
      this.hint.hidden = state !== "idle";
    }

    get isOver() {
      return ["done", "stopped", "error"].includes(this.state);
    }

    /** One event of the stream. */
    on(name, data) {
      if (name === "queue") this.setState("queued", data.position ? `position ${data.position}` : "waiting");
      else if (name === "started") this.setState("prompt", "reading the prompt");
      else if (name === "text") this.addText(data);
      else if (name === "draft") this.addDraft(data);
      else if (name === "result") this.finish(data);
    }

    /** Tokens that are final. */
    addText({ text, tokens, num_forwards: numForwards, time_ms: time }) {
      // Where tokens have no text of their own, the first shows what came with all of them.
      const hasTexts = tokens.some((row) => row[TEXT]);
      tokens.forEach((row, i) => {
        const own = hasTexts ? (row[TEXT] ?? "") : i === 0 ? text : "";
        const said = row.slice(0, MARGIN);
        this.rows.push([...said, row[MARGIN] ?? null, own, time ?? null, numForwards ?? null]);
      });
      const step = tokens.length ? tokens[tokens.length - 1][STEP] : 0;
      this.numForwards = Math.max(this.numForwards, numForwards ?? step ?? 0);
      this.draftTexts = [];
      this.hear(text);
      frames.ask(this);
    }

    /** A block in the making. */
    addDraft({ tokens, num_forwards: numForwards }) {
      this.draftTexts = tokens;
      this.numForwards = Math.max(this.numForwards, numForwards ?? 0);
      frames.ask(this);
    }

    /** Whole sentences go to screen readers. */
    hear(text) {
      if (this.isQuiet) return;
      this.unsaid += text;
      const end = this.unsaid.search(/[.!?](\s|$)(?![\s\S]*[.!?](\s|$))/);
      if (end < 0) return;
      this.say(`${this.info.title}: ${this.unsaid.slice(0, end + 1).trim()}`);
      this.unsaid = this.unsaid.slice(end + 1);
    }

    /** Whether the end of the answer is in view, so that the canvas should follow it. */
    get isAtEnd() {
      const { scrollTop, clientHeight, scrollHeight } = this.canvas;
      return scrollTop + clientHeight > scrollHeight - 40;
    }

    scrollToEnd() {
      this.canvas.scrollTop = this.canvas.scrollHeight;
    }

    /** Draw what has come since. */
    draw() {
      if (this.numShown < this.rows.length) {
        vlmDlm.tokens.append(this.committed, this.rows.slice(this.numShown));
        this.numShown = this.rows.length;
        if (this.colorBy === "step") this.paint("step");
      }
      vlmDlm.tokens.draft(this.drafts, this.draftTexts);
      if (!this.isOver && this.numForwards + this.rows.length > 0) this.setState("writing", this.progress());
    }

    progress() {
      const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
      return `${plural(this.rows.length, "token")} in ${plural(this.numForwards, "forward")}`;
    }

    /** The result: an answer or an error. */
    finish(result) {
      this.result = result;
      this.draftTexts = [];
      if (result.error) {
        this.fail(vlmDlm.stream.sentence(result.error, 500));
        return;
      }
      if (result.metrics) this.numForwards = result.metrics.num_forwards;
      const words = result.finish_reason === "length" ? "cut at the most tokens" : "done";
      this.setState("done", words);
      if (this.unsaid.trim()) this.say(`${this.info.title}: ${this.unsaid.trim()}`);
      this.unsaid = "";
      frames.ask(this);
    }

    /** Ended by the visitor, or by what `words` say. */
    stop(words = "stopped") {
      if (this.isOver) return;
      this.draftTexts = [];
      this.setState("stopped", words);
      frames.ask(this);
    }

    /** Remember the answer of a whole run. */
    keep() {
      this.kept = { rows: this.rows, result: this.result, words: this.chip.textContent.slice(2), state: this.state };
    }

    /** Show the remembered answer again. */
    restore() {
      if (!this.kept) return;
      const { rows, result, words, state } = this.kept;
      this.reset(state, true);
      Object.assign(this, { rows, result });
      this.setState(state, words);
      if (result?.error) this.fail(vlmDlm.stream.sentence(result.error, 500));
      frames.ask(this);
    }

    /** Ended by something else. */
    fail(sentence) {
      this.draftTexts = [];
      this.setState("error", "error");
      this.error.hidden = false;
      this.error.setAttribute("role", "alert");
      this.error.textContent = sentence;
      frames.ask(this);
    }

    /** What colours mean here. */
    paint(colorBy) {
      this.colorBy = colorBy;
      vlmDlm.tokens.paint(this.canvas, colorBy);
    }

    /** Figures of all runs. */
    showCard(runs) {
      if (this.result?.metrics) vlmDlm.card.render(this.card, runs);
    }

    /** How the answer agrees with that of the reference. */
    showBadge(agreement) {
      this.badge.hidden = false;
      if (this.info.name === vlmDlm.told.reference)
        return this.setBadge("reference", "the others are compared with this");
      if (!agreement) return this.setBadge("unknown", "nothing to compare with: no whole answer of AR");
      if (agreement.is_identical) return this.setBadge("identical", "✓ identical to AR");
      const { index, margin } = agreement.first_difference;
      const apart = margin == null ? "" : `; AR's two best logits are ${vlmDlm.card.num(margin)} apart there`;
      return this.setBadge(
        this.info.is_lossless ? "differs" : "approximate",
        `≠ differs from AR at token ${index + 1}${apart}`,
      );
    }

    setBadge(kind, words) {
      this.badge.dataset.kind = kind;
      this.badge.textContent = words;
    }

    /** Mark what differs: {added, lost} of `vlmDlm.diff`; null takes the marks away. */
    showDiff(marks, arRows) {
      for (const element of this.committed.querySelectorAll(".vd-lost")) element.remove();
      const all = vlmDlm.tokens.spans(this.committed);
      all.forEach((element, i) => {
        const isAdded = Boolean(marks?.added.has(i));
        element.classList.toggle("vd-added", isAdded);
        if (isAdded) element.setAttribute("role", "insertion");
        else if (element.getAttribute("role") === "insertion") element.removeAttribute("role");
      });
      this.canvas.classList.toggle("vd-diffing", Boolean(marks));
      for (const [index, indices] of marks?.lost ?? []) {
        const text = indices.map((i) => arRows[i][TEXT]).join("");
        if (!text) continue;
        this.committed.insertBefore(make("del", "vd-lost", text), all[index] ?? null);
      }
    }
  }

  return { Panel, frames };
})();
