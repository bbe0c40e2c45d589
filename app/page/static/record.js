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
  function shared({ first, parallel }) {
    if (!first) return "";
    const { ms } = vlmDlm.card;
    const known = first.prefill_ms != null;
    const cost = known ? `image ${ms(first.vision_ms)}, prompt of ${first.prompt_tokens} tokens ${ms(first.prefill_ms)}` : `${first.prompt_tokens} tokens`;
    const words = first.is_prompt_cached
      ? "The prompt was in the cache already, so no mode had to compute it."
      : `The prompt was computed once (${cost}) and taken over by all behind the first.`;
    return parallel ? `${words} The modes ran at once and slowed each other down: their speeds say little.` : words;
  }

  return { make, light, shared };
})();
