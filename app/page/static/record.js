// A finished comparison as one object: for the report, the replay, the JSON twin and the charts.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.record = (() => {
  /** The whole comparison. job: what ran; panels: by mode. */
  function make(job, panels) {
    const answers = {};
    for (const [name, panel] of panels) {
      answers[name] = { title: panel.info.title, result: panel.result, tokens: panel.rows };
      const agreement = job.summary?.agreement?.[name];
      if (panel.result && agreement) panel.result.agreement = agreement;
    }
    const image = job.image && { name: job.image.name, width: job.image.width, height: job.image.height };
    return {
      format: "vlm-dlm.comparison/1",
      created: new Date().toISOString(),
      model: job.model,
      prompt: job.prompt,
      modes: job.modes.map((mode) => mode.name),
      options: { ...job.options, ...job.settings },
      mode_options: job.modeOptions,
      parallel: Boolean(job.parallel),
      summary: job.summary,
      answers,
      runs: job.runs,
      image,
    };
  }

  /** The record with tokens as [time_ms, how many by then]: all that charts need. */
  function light(record) {
    const answers = {};
    for (const [name, { title, result, tokens }] of Object.entries(record.answers)) {
      const points = new Map();
      tokens.forEach((row, i) => row[7] != null && points.set(row[7], i + 1));
      answers[name] = { title, result, points: [...points] };
    }
    return { ...record, answers };
  }

  /** What all modes had in common, as a sentence. */
  function shared({ first, parallel, runs }) {
    if (!first) return "";
    const { ms } = vlmDlm.card;
    const isTold = first.prefill_ms != null;
    let words = `The prompt has ${first.prompt_tokens} tokens.`;
    if (isTold && first.is_prompt_cached) words = "The prompt was in the cache already, so no mode had to compute it.";
    if (isTold && !first.is_prompt_cached) {
      const cost = `image ${ms(first.vision_ms)}, prompt of ${first.prompt_tokens} tokens ${ms(first.prefill_ms)}`;
      words = `The prompt was computed once (${cost}) and taken over by all behind the first.`;
    }
    const isApart = isTold && Object.values(runs[0] ?? {}).some((run) => !run.is_prompt_told);
    if (isApart) words += " A mode without these times ran on an engine of its own, which computed the prompt for itself.";
    return parallel ? `${words} The modes ran at once and slowed each other down: their speeds say little.` : words;
  }

  return { make, light, shared };
})();
