window.vlmDlm = window.vlmDlm || {};

/** One scrub bar for all modes. Needs parts, tracks, steering and tokens. */
vlmDlm.replay = (() => {
  const { make, duration, placeOf, onRecord } = vlmDlm.parts,
    { trackOf, stateAt } = vlmDlm.tracks;
  const { ORIGIN, STEP } = vlmDlm.parts.ROW;
  const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
  const FORWARDS_PER_S = 10; // at speed 1
  const COLOURS = [
    ["origin", "Origin"],
    ["step", "Step"],
    ["confidence", "Confidence"],
  ];

  /** The whole view in `root`, for one record. Gives what tests and the keyboard use. */
  function show(root, record) {
    if (root.replayView) root.replayView.stop();
    root.textContent = "";
    root.classList.add("replay");
    const tracks = record.modes
      .filter((mode) => record.answers[mode])
      .map((mode) => trackOf(record, mode))
      .filter((track) => track.tokens.length);
    root.hidden = !tracks.length;
    if (!tracks.length) return null;
    const view = new View(root, record, tracks);
    root.replayView = view;
    return view;
  }

  class View {
    constructor(root, record, tracks) {
      Object.assign(this, { root, record, tracks, axis: "time", at: 0, speed: 1, playing: false });
      this.colorBy = COLOURS[0][0];
      this.build();
      vlmDlm.steering.listen(this);
      this.setAxis("time");
      this.moveTo(this.end);
    }

    /** The last place on the axis. */
    get end() {
      return Math.max(...this.tracks.map(({ commits }) => commits[commits.length - 1][this.axis]), 1);
    }

    build() {
      this.play = make("button", "replay-play");
      this.play.type = "button";
      this.bar = make("input", "replay-bar");
      Object.assign(this.bar, { type: "range", min: 0, step: "any", value: 0 });
      this.bar.setAttribute("aria-label", "Place in the replay");
      this.place = make("output", "replay-place");
      this.lanes = make("div", "replay-lanes");
      this.panels = make("div", "replay-panels");
      this.legend = make("div", "replay-legend");
      this.note = make("p", "replay-note");
      this.root.append(
        make(
          "div",
          "replay-head",
          "",
          make("h2", "", "Replay"),
          this.axisSwitch(),
          this.speedChoice(),
          this.colourChoice(),
        ),
        make("div", "replay-line", "", make("div", "replay-start", "", this.play, this.place), this.bar),
        this.lanes,
        this.panels,
        this.legend,
        this.note,
      );
      this.panels.dataset.count = this.tracks.length;
      for (const track of this.tracks) this.addTrack(track);
      this.colour();
      this.setPlaying(false);
    }

    axisSwitch() {
      const group = make("div", "replay-axis");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", "Axis");
      this.axisButtons = [
        ["time", "Wall time"],
        ["forwards", "Forward passes"],
      ].map(([axis, text]) => {
        const button = make("button", "", text);
        button.type = "button";
        button.dataset.axis = axis;
        button.addEventListener("click", () => this.setAxis(axis));
        return button;
      });
      group.append(...this.axisButtons);
      return group;
    }

    /** A labelled choice; values: [[value, text], ...]. */
    choice(name, values, chosen, onChange) {
      const select = make("select");
      for (const [value, text] of values) select.append(new Option(text, value));
      select.value = chosen;
      select.addEventListener("change", () => onChange(select.value));
      return [make("label", "", `${name} `, select), select];
    }

    speedChoice() {
      const values = SPEEDS.map((speed) => [String(speed), `${speed}×`]);
      const [label, select] = this.choice("Speed", values, "1", (value) => {
        this.speed = Number(value);
      });
      this.speedSelect = select;
      return label;
    }

    colourChoice() {
      return this.choice("Colour", COLOURS, this.colorBy, (value) => {
        this.colorBy = value;
        this.colour();
      })[0];
    }

    addTrack(track) {
      track.lane = make("div", "replay-ticks");
      track.lane.setAttribute("aria-hidden", "true");
      this.lanes.append(make("span", "replay-name", track.title), track.lane);
      track.state = make("span", "replay-state");
      track.text = make("div", "replay-text");
      this.panels.append(
        make(
          "section",
          "replay-panel",
          "",
          make("header", "", "", make("h3", "", track.title), track.state),
          track.text,
        ),
      );
    }

    /** Draw all tokens once; from then on only their states change. */
    colour() {
      const { tokens } = vlmDlm;
      for (const track of this.tracks) {
        track.text.textContent = "";
        tokens.render(track.text, track.tokens, { colorBy: this.colorBy, label: `Replay of ${track.title}` });
        track.spans = [...track.text.querySelectorAll(".vd-token")];
        track.shown = [track.spans.length, track.spans.length]; // without a state they are final
      }
      const used = new Set(this.tracks.flatMap((track) => track.tokens.map((token) => token[ORIGIN])));
      const origins = Object.keys(tokens.ORIGINS).filter((name) => used.has(name));
      tokens.legend(this.legend, this.colorBy, { origins, withDraft: false });
      this.legend.append(this.key("pending", "chosen, not final"), this.key("mask", "mask"));
      this.draw();
    }

    /** What a state looks like, and its name. */
    key(state, words) {
      const swatch = make("span", "replay-swatch", "abc");
      swatch.dataset.state = state;
      swatch.setAttribute("aria-hidden", "true");
      return make("span", "replay-key", "", swatch, words);
    }

    faster(direction) {
      const place = SPEEDS.indexOf(this.speed) + direction;
      this.speed = SPEEDS[Math.min(Math.max(place, 0), SPEEDS.length - 1)];
      this.speedSelect.value = String(this.speed);
    }

    toggle() {
      if (!this.playing && this.at >= this.end) this.moveTo(0);
      this.setPlaying(!this.playing);
    }

    stop() {
      this.setPlaying(false);
    }

    setPlaying(playing) {
      this.playing = playing;
      this.play.textContent = playing ? "❚❚" : "▶";
      this.play.setAttribute("aria-label", playing ? "Pause" : "Play");
      if (playing) this.run();
      else if (this.place) this.tell();
    }

    run() {
      let last = performance.now();
      const frame = (now) => {
        if (!this.playing || !this.root.isConnected) return;
        const perMs = this.axis === "time" ? this.speed : (this.speed * FORWARDS_PER_S) / 1000;
        this.moveTo(this.at + Math.max(now - last, 0) * perMs);
        last = now;
        if (this.at >= this.end) this.setPlaying(false);
        else requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    }

    /** Keeps the place: the same share of the new axis. */
    setAxis(axis) {
      const share = this.at / this.end;
      this.axis = axis;
      for (const button of this.axisButtons) {
        button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
      }
      this.bar.max = this.end;
      for (const track of this.tracks) this.drawLane(track);
      const summary = this.record.summary || {};
      const took = `took ${duration((summary.vision_ms || 0) + (summary.prefill_ms || 0))}, once for all`;
      const came = summary.is_prompt_cached ? "came from the cache" : took;
      const prompt = summary.prefill_ms === null ? "" : `; image and prompt ${came}`; // an engine may not say
      this.note.textContent =
        axis === "time"
          ? `The engine's own clock. Each mode starts when its prompt is ready${prompt}.`
          : `Each mode's forward passes after the prompt. At speed 1, ${FORWARDS_PER_S} a second.`;
      this.moveTo(share * this.end);
    }

    /** Ticks where tokens became final; the last one ends the lane. */
    drawLane(track) {
      const { commits, lane } = track,
        space = "http://www.w3.org/2000/svg",
        end = this.end;
      const svg = document.createElementNS(space, "svg"),
        path = document.createElementNS(space, "path");
      svg.setAttribute("viewBox", "0 0 1000 10");
      svg.setAttribute("preserveAspectRatio", "none");
      path.setAttribute("d", commits.map((commit) => `M${((commit[this.axis] / end) * 1000).toFixed(1)} 1V9`).join(""));
      svg.append(path);
      const fill = make("i", "replay-fill");
      fill.style.width = `${(commits[commits.length - 1][this.axis] / end) * 100}%`;
      track.cursor = make("i", "replay-cursor");
      lane.replaceChildren(fill, svg, track.cursor);
    }

    moveTo(at) {
      this.at = Math.min(Math.max(at || 0, 0), this.end);
      this.bar.value = this.at;
      this.draw();
    }

    draw() {
      const share = `${(this.at / this.end) * 100}%`;
      for (const track of this.tracks) {
        const state = stateAt(track, this.axis, this.at);
        this.paint(track, state);
        if (track.cursor) track.cursor.style.left = share;
        const { end } = track.commits[track.commits.length - 1];
        const text =
          state.done === end
            ? `done: ${end} tokens, ${state.forwards} forwards`
            : `${state.done} of ${end} tokens, forward ${Math.floor(state.forwards)}`;
        if (track.state.textContent !== text) track.state.textContent = text;
        track.state.classList.toggle("is-done", state.done === end);
      }
      this.place.textContent =
        this.axis === "time"
          ? `${duration(this.at)} of ${duration(this.end)}`
          : `${Math.floor(this.at)} of ${this.end} forwards`;
      if (!this.playing) this.tell();
    }

    /** For screen readers, which would otherwise hear every frame. */
    tell() {
      this.bar.setAttribute("aria-valuetext", this.place.textContent);
    }

    /** Change the states of those tokens that can differ from the last time. */
    paint(track, { done, work, forwards }) {
      const from = Math.min(track.shown[0], done),
        to = Math.max(...track.shown, work);
      for (let index = from; index < to && index < track.spans.length; index++) {
        const { dataset } = track.spans[index];
        let state = "later";
        if (index < done) state = "final";
        else if (index < work) state = track.tokens[index][STEP] <= forwards ? "pending" : "mask";
        if ((dataset.state || "final") !== state) dataset.state = state;
      }
      track.shown = [done, work];
    }
  }

  onRecord((record) => show(placeOf("replay"), record));
  return { show };
})();
