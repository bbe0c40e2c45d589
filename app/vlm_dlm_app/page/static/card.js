// The speed card: every figure from the engine, with what it rests on.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.card = (() => {
  const { make, duration } = vlmDlm.parts;
  const PARTS = [
    ["vision_time_ms", "image"],
    ["prefill_time_ms", "prompt"],
    ["decode_time_ms", "writing"],
  ];

  const FIGURES = [
    ...PARTS.map(([name]) => name),
    "tokens_per_second",
    "tokens_per_forward",
    "num_forwards",
    "num_positions",
    "num_wasted_positions",
    "time_to_first_token_ms",
    "time_to_first_sentence_ms",
    "queue_time_ms",
  ];

  /** A number without noise. */
  function num(value) {
    const size = Math.abs(value);
    return value.toLocaleString("en", {
      maximumFractionDigits: size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2,
    });
  }

  /** Middle of a list, null of none. */
  function median(values) {
    const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
    if (!sorted.length) return null;
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  /** From lowest to highest of several runs, "" of one. */
  function spread(values, show) {
    const known = values.filter((value) => value != null);
    if (known.length < 2) return "";
    const [low, high] = [show(Math.min(...known)), show(Math.max(...known))];
    return low === high ? "the same in every run" : `${low} to ${high}`;
  }

  /** One figure with its name and a small note. */
  function figure(name, label, values, { show = num, note = "" } = {}) {
    const item = make("div", "vd-figure");
    const value = median(values);
    const number = make("dd", "vd-number", value == null ? "–" : show(value));
    number.dataset.figure = name;
    if (value != null) number.dataset.value = String(value);
    item.append(make("dt", "", label), number);
    for (const words of [note, spread(values, show)]) if (words) item.append(make("dd", "vd-note", words));
    return item;
  }

  /** Image, prompt and writing as parts of one bar: the middle of all runs. */
  function split(runs) {
    const parts = PARTS.map(([name, label]) => ({ name, label, value: median(runs.map((run) => run[name])) })).filter(
      ({ value }) => value != null,
    ); // an engine may not say
    const whole = parts.reduce((sum, part) => sum + part.value, 0);
    const box = make("div", "vd-split");
    const bar = make("div", "vd-bar");
    bar.setAttribute("aria-hidden", "true");
    const words = make("div", "vd-bar-words");
    for (const { name, label, value } of parts) {
      const piece = make("span", `vd-part vd-part-${label}`);
      piece.style.flexGrow = String(whole ? value / whole : 0);
      bar.append(piece);
      const word = make("span", "vd-key");
      const swatch = make("span", `vd-dot vd-part-${label}`);
      swatch.setAttribute("aria-hidden", "true");
      const text = make("span", "", `${label} ${duration(value)}`);
      text.dataset.figure = name;
      text.dataset.value = String(value);
      word.append(swatch, text);
      words.append(word);
    }
    box.append(bar, words);
    return box;
  }

  /** Where the prompt came from, and how many runs the figures rest on. */
  function basis(runs) {
    const line = make("div", "vd-basis");
    const cold = runs.filter((run) => !run.is_prompt_cached).length;
    let words = cold ? "cold: prompt computed here" : "warm: prompt from the cache";
    if (cold && cold < runs.length) words = `prompt computed in ${cold} of ${runs.length} runs, else from the cache`;
    const chip = make("span", "vd-tag", words);
    chip.dataset.figure = "cache";
    line.append(
      chip,
      make("span", "vd-tag", runs.length === 1 ? "one run" : `median of ${runs.length} runs, lowest to highest`),
    );
    return line;
  }

  /** What the time to the first token holds. */
  function startNote(runs) {
    const isCached = runs.filter((run) => run.is_prompt_cached).length;
    const words = isCached ? [isCached === runs.length ? "prompt not included" : ""] : ["image and prompt included"];
    const queue = median(runs.map((run) => run.queue_time_ms)) ?? 0;
    if (queue > vlmDlm.told.least_queue_ms) words.push(`${duration(queue)} of it in the queue`);
    return words.filter(Boolean).join(", ");
  }

  /** Fill `container`. runs: this mode's figures, one per run. */
  function render(container, runs) {
    const all = (name) => runs.map((run) => run[name]);
    const positions = median(all("num_positions")),
      speeds = all("tokens_per_second");
    const wasted = positions == null ? "" : `of ${num(positions)} computed`;
    const short = speeds.every((speed) => speed == null) ? vlmDlm.told.too_short : "";
    const figures = make("dl", "vd-figures");
    figures.append(
      figure("tokens_per_second", "tokens per second", speeds, { note: short }),
      figure("tokens_per_forward", "tokens per forward", all("tokens_per_forward")),
      figure("num_forwards", "forwards", all("num_forwards")),
      figure("time_to_first_token_ms", "first token", all("time_to_first_token_ms"), {
        show: duration,
        note: startNote(runs),
      }),
      figure("time_to_first_sentence_ms", "first whole sentence", all("time_to_first_sentence_ms"), { show: duration }),
      figure("num_wasted_positions", "wasted positions", all("num_wasted_positions"), { note: wasted }),
    );
    container.replaceChildren(figures, split(runs), basis(runs));
  }

  /** What one run adds to the figures of a mode. */
  function runOf(result) {
    const { metrics, usage } = result;
    const run = Object.fromEntries(FIGURES.map((name) => [name, metrics[name] ?? null]));
    if (result.num_tokens < vlmDlm.told.least_tokens) run.tokens_per_second = null; // the first token comes with the prompt
    run.is_prompt_told = metrics.prefill_time_ms != null; // by its engine
    return { ...run, is_prompt_cached: (usage?.prompt_tokens_details?.cached_tokens ?? 0) > 0 };
  }

  return { render, runOf, num, median };
})();
