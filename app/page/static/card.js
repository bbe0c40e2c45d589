// The speed card: every figure from the engine, with what it rests on.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.card = (() => {
  const { make } = vlmDlm.tokens;
  const PARTS = [
    ["vision_time_ms", "image"],
    ["prefill_time_ms", "prompt"],
    ["decode_time_ms", "writing"],
  ];

  /** A number without noise. */
  function num(value) {
    const size = Math.abs(value);
    return value.toLocaleString("en", { maximumFractionDigits: size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2 });
  }

  /** A duration. */
  function ms(value) {
    return value >= 1000 ? `${num(value / 1000)} s` : `${num(value)} ms`;
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

  /** Image, prompt and writing as parts of one bar. */
  function split(metrics) {
    const parts = PARTS.filter(([name]) => metrics[name] != null).map(([name, label]) => ({ name, label, value: metrics[name] }));
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
      const text = make("span", "", `${label} ${ms(value)}`);
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
    line.append(chip, make("span", "vd-tag", runs.length === 1 ? "one run" : `median of ${runs.length} runs, lowest to highest`));
    return line;
  }

  /** What the time to the first token holds. */
  function startNote(runs) {
    if (runs.every((run) => run.is_prompt_cached)) return "prompt not included";
    return runs.some((run) => run.is_prompt_cached) ? "" : "image and prompt included";
  }

  /** Fill `container`. runs: this mode's figures, one per run; metrics: of the last one. */
  function render(container, metrics, runs) {
    const all = (name) => runs.map((run) => run[name]);
    const wasted = metrics.num_positions == null ? "" : `of ${num(metrics.num_positions)} computed`;
    const figures = make("dl", "vd-figures");
    figures.append(
      figure("tokens_per_second", "tokens per second", all("tokens_per_second")),
      figure("tokens_per_forward", "tokens per forward", all("tokens_per_forward")),
      figure("num_forwards", "forwards", all("num_forwards")),
      figure("time_to_first_token_ms", "first token", all("time_to_first_token_ms"), { show: ms, note: startNote(runs) }),
      figure("time_to_first_sentence_ms", "first whole sentence", all("time_to_first_sentence_ms"), { show: ms }),
      figure("num_wasted_positions", "wasted positions", all("num_wasted_positions"), { note: wasted }),
    );
    container.replaceChildren(figures, split(metrics), basis(runs));
  }

  /** What one run adds to the figures of a mode. */
  function runOf(result) {
    const { metrics, usage } = result;
    const names = ["tokens_per_second", "tokens_per_forward", "num_forwards", "time_to_first_token_ms"];
    names.push("time_to_first_sentence_ms", "num_wasted_positions");
    const run = Object.fromEntries(names.map((name) => [name, metrics[name] ?? null]));
    run.is_prompt_told = metrics.prefill_time_ms != null; // by its engine
    return { ...run, is_prompt_cached: (usage?.prompt_tokens_details?.cached_tokens ?? 0) > 0 };
  }

  return { render, runOf, num, ms, median };
})();
