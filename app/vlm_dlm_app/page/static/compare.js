// The first view: starts and stops comparisons and shows them in panels.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.compare = (() => {
  const { make } = vlmDlm.parts,
    { reference } = vlmDlm.told;
  const SLOTS = ["replay", "encoder", "share"];

  return {
    record: null,
    listeners: [],
    imageListeners: [],
    image: null,
    hasKeys: false,
    modes: [],
    panels: new Map(),
    running: null,
    loading: null,
    colorBy: "origin",
    picked: null,

    /** Build the stage in `root`, once Gradio has put it there. */
    mount(root, trigger) {
      this.root = root;
      this.trigger = trigger;
      root.classList.add("vd");
      this.modes = JSON.parse(root.dataset.modes || "[]");
      this.hasKeys = root.dataset.keys === "true"; // whether callers need one
      this.alert = make("div", "vd-alert");
      this.alert.setAttribute("role", "alert");
      this.alert.hidden = true;
      this.live = make("div", "vd-live");
      this.live.setAttribute("aria-live", "polite");
      this.note = make("p", "vd-shared");
      this.grid = make("div", "vd-grid");
      this.tools = vlmDlm.toolbar.build({
        onColor: (colorBy) => this.setColor(colorBy),
        onDiff: (isOn) => this.setDiff(isOn),
      });
      const help = vlmDlm.toolbar.help();
      root.replaceChildren(this.alert, this.tools.bar, this.note, this.grid, help, ...this.slots(), this.live);
      this.build(this.modes.map((mode) => mode.name));
      this.setColor("origin");
      this.setBusy(false);
      vlmDlm.image.takePasted(root);
      window.addEventListener("pagehide", () => this.stop(false));
    },

    /** Places for other parts of the page. */
    slots() {
      return SLOTS.map((id) => {
        const place = make("section", "vd-slot");
        place.id = id;
        return place;
      });
    },

    /** One panel for each of these modes. */
    build(names) {
      const known = new Map(this.modes.map((mode) => [mode.name, mode]));
      this.panels = new Map();
      for (const name of names) {
        const info = known.get(name) ?? { name, title: name, is_lossless: false, options: [] };
        const panel = new vlmDlm.panels.Panel(info, (words) => this.say(words));
        panel.paint(this.colorBy);
        this.panels.set(name, panel);
      }
      this.grid.replaceChildren(...[...this.panels.values()].map((panel) => panel.element));
    },

    /** Committed text for those who listen. */
    say(words) {
      this.live.append(make("p", "", words));
      while (this.live.childElementCount > 24) this.live.firstElementChild.remove();
    },

    /** What colours mean from now on; differences have to give way. */
    setColor(colorBy) {
      if (this.tools.box.checked) this.tools.box.click();
      this.colorBy = colorBy;
      for (const panel of this.panels.values()) panel.paint(colorBy);
      vlmDlm.tokens.legend(this.tools.legend, colorBy);
    },

    /** Marks on or off where answers are not those of the reference. */
    setDiff(isOn) {
      const legend = isOn ? ["differences", { withDraft: false }] : [this.colorBy];
      vlmDlm.tokens.legend(this.tools.legend, ...legend);
      const ar = this.panels.get(reference);
      const elsewhere = new Set();
      for (const [name, panel] of this.panels) {
        if (name === reference || !ar) continue;
        const isWhole = isOn && panel.state === "done" && ar.state === "done";
        const marks = isWhole ? vlmDlm.diff.compare(ar.rows, panel.rows) : null;
        for (const indices of marks?.lost.values() ?? []) {
          for (const i of indices) elsewhere.add(i);
        }
        panel.showDiff(marks, ar.rows);
      }
      ar?.showDiff(isOn ? { added: elsewhere, lost: new Map() } : null, ar.rows);
    },

    /** What Gradio's image part holds now; null for nothing. */
    setImage(file) {
      this.image = null;
      this.imageFailed = false;
      vlmDlm.image.letGo(file);
      const loading = file ? vlmDlm.image.load(file) : null;
      this.loading = loading;
      const settle = (image) => this.loading === loading && this.haveImage(image, Boolean(file));
      if (!loading) settle(null);
      loading?.then(settle, () => settle(null));
    },

    /** The image is there, could not be read, or was taken away (wasGiven: false). */
    haveImage(image, wasGiven) {
      this.image = image;
      this.imageFailed = wasGiven && !image;
      const isShown = image ? image.width !== null : !wasGiven;
      this.setAlert(
        isShown ? "" : "This file cannot be shown as an image. Choose a JPEG, PNG, WebP, GIF, BMP or AVIF.",
      );
      for (const listener of this.imageListeners) listener(image);
    },

    /** The image as it is, for parts that hand it on; "" for none. */
    imageDataUri() {
      return this.image?.uri ?? "";
    },

    /** What a button of the gallery or of the questions stands for, as Gradio's parts take it.
     * Nothing is uploaded for an example. */
    pick(button) {
      const image = button.querySelector("img");
      const { name } = button.dataset;
      this.picked = image
        ? {
            path: name,
            url: image.src,
            orig_name: name,
            mime_type: null,
            size: null,
            meta: { _type: "gradio.FileData" },
          }
        : button.textContent;
      return this.picked;
    },

    /** A sentence above the panels; "" takes it away. */
    setAlert(sentence) {
      this.alert.textContent = sentence;
      this.alert.hidden = !sentence;
    },

    /** End what runs; the server ends it too, as its reader is gone. keeps: whole runs count. */
    stop(keeps = true) {
      this.running?.abort();
      this.running = null;
      const job = this.job;
      this.job = null;
      for (const panel of this.panels.values()) if (panel.state !== "idle") panel.stop();
      if (keeps && job?.runs.length) {
        for (const panel of this.panels.values()) panel.restore();
        this.complete(job);
        this.note.textContent = `Stopped after ${job.runs.length} of ${job.numRuns} runs. ${this.note.textContent}`;
      } else if (job) this.note.textContent = "";
      this.setBusy(false);
    },

    setBusy(isBusy) {
      document.documentElement.classList.toggle("vd-busy", isBusy);
      const [start, stop] = ["start", "stop"].map((id) => document.getElementById(id));
      if (!isBusy && document.activeElement === stop) start.focus(); // a button that is off has no focus
      if (stop) stop.disabled = !isBusy;
      this.grid.setAttribute("aria-busy", String(isBusy)); // not the root, which holds what is read out
    },

    /** Whether replay, report and charts are those of an earlier comparison. */
    setStale(isStale) {
      document.documentElement.classList.toggle("vd-stale", isStale);
      if (isStale) this.record = null;
    },

    /** Compare; ends what ran before. controls: see `vlmDlm.job.make`. */
    async start(prompt, modes, ...controls) {
      this.stop(false);
      this.setAlert("");
      const chosen = this.modes.filter((mode) => modes.includes(mode.name));
      if (!chosen.length) return this.setAlert("Choose at least one mode.");
      if (!prompt.trim()) return this.setAlert("Write a question first.");
      const controller = new AbortController();
      this.running = controller;
      const example = await this.someImage();
      if (this.running !== controller) return undefined;
      if (this.imageFailed) return this.setAlert("The image could not be read. Choose another one.");
      const asked = { prompt, modes: chosen, image: this.image, example };
      return this.run(vlmDlm.job.make(asked, ...controls), controller);
    },

    /** Wait for the image; without one the first example is taken, where everyone can see it.
     * Its title, "" where none had to be taken. */
    async someImage() {
      let example = "";
      if (!this.image && !this.imageFailed && !this.loading) example = vlmDlm.image.takeExample();
      for (let i = 0; i < 40 && !this.loading; i += 1) await new Promise((resolve) => setTimeout(resolve, 50));
      await Promise.resolve(this.loading).catch(() => null);
      return example;
    },

    /** All runs of a comparison. */
    async run(job, controller) {
      this.setBusy(true);
      this.setStale(true);
      this.job = job;
      if (this.tools.box.checked) this.tools.box.click();
      this.tools.box.disabled = true;
      this.build(job.modes.map((mode) => mode.name));
      const isBelow = this.root.getBoundingClientRect().top > 0.6 * window.innerHeight; // on a phone
      if (isBelow) this.root.scrollIntoView({ block: "start", behavior: "smooth" });
      try {
        for (let i = 0; i < job.numRuns; i += 1) {
          const run = job.numRuns > 1 ? `Run ${i + 1} of ${job.numRuns}.` : "";
          this.note.textContent = `${vlmDlm.record.exampleNote(job)} ${run}`.trim();
          await this.once(job, controller.signal);
        }
        if (this.running === controller) this.complete(job);
      } catch (error) {
        if (this.running === controller && error.name !== "AbortError") this.fail(error.message);
      }
      if (this.running === controller) {
        this.running = null;
        this.job = null;
        this.setBusy(false);
      }
    },

    /** One run: a request of the public interface. */
    async once(job, signal) {
      const form = new FormData();
      if (job.image) form.append("image", job.image.blob, job.image.name);
      form.append("prompt", job.prompt);
      form.append("modes", job.modes.map((mode) => mode.name).join(","));
      form.append("options", JSON.stringify(job.options));
      form.append("mode_options", JSON.stringify(job.modeOptions));
      form.append("parallel", String(Boolean(job.parallel)));
      form.append("stream", "true");
      for (const panel of this.panels.values()) panel.reset("waiting", job.runs.length > 0);
      const figures = {};
      const onEvent = (name, data) => {
        if (signal.aborted) return;
        if (name === "summary") Object.assign(job, { summary: data, first: job.first ?? data });
        else this.panels.get(data.mode)?.on(name, data);
        if (name === "started") job.model = data.model.split(":")[0];
        if (name === "result" && data.metrics) figures[data.mode] = vlmDlm.card.runOf(data);
        if (name === "result" && data.metrics) this.panels.get(data.mode)?.showCard([figures[data.mode]]);
      };
      await vlmDlm.stream.post("v1/compare", form, { signal, onEvent });
      if (signal.aborted) return;
      job.runs.push(figures);
      for (const panel of this.panels.values()) panel.keep();
    },

    /** The sentence stands above the panels; what was written stays. */
    fail(sentence) {
      this.note.textContent = "";
      for (const panel of this.panels.values()) {
        if (!panel.isOver && panel.rows.length) panel.stop("broke off");
        else if (!panel.isOver) panel.reset("idle");
      }
      this.setAlert(sentence);
    },

    /** Everything is there: badges, cards, record. */
    complete(job) {
      vlmDlm.panels.frames.run();
      const hasReference = this.panels.get(reference)?.state === "done";
      for (const [name, panel] of this.panels) {
        const runs = job.runs.map((run) => run[name]).filter(Boolean);
        panel.showCard(runs);
        if (panel.state === "done" && this.panels.size > 1) panel.showBadge(job.summary?.agreement?.[name]);
      }
      this.tools.box.disabled = !hasReference || this.panels.size < 2;
      this.note.textContent = vlmDlm.record.shared(job);
      this.record = vlmDlm.record.make(job, this.panels);
      vlmDlm.parts.rememberPicture(this.record, job.image);
      this.setStale(false);
      // One after the other, so that the page answers in between.
      const { record } = this;
      for (const listener of this.listeners) setTimeout(() => listener(record));
      setTimeout(() => this.trigger(vlmDlm.record.light(record)));
    },
  };
})();
