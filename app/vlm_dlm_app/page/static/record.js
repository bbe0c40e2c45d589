// A finished comparison as one object: for the report, the replay, the JSON twin and the charts.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.record = (() => {
  const { TIME } = vlmDlm.parts.ROW;

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
      // What was spent once for all is what the first run spent.
      summary: job.summary && {
        ...job.summary,
        vision_ms: job.first.vision_ms,
        prefill_ms: job.first.prefill_ms,
        is_prompt_cached: job.first.is_prompt_cached,
      },
      answers,
      runs: job.runs,
      image,
    };
  }

  /** The record with tokens as [ms since the prompt was ready, how many by then], for charts. */
  function light(record) {
    const answers = {};
    for (const [name, { title, result, tokens }] of Object.entries(record.answers)) {
      const points = new Map();
      const began = vlmDlm.tracks.beganAt({ result, tokens });
      for (const [i, row] of tokens.entries()) if (row[TIME] != null) points.set(row[TIME] - began, i + 1);
      answers[name] = { title, result, points: [...points] };
    }
    return { ...record, answers };
  }

  /** That an example was taken, as there was no image. */
  function exampleNote({ example }) {
    return example ? `No image was chosen, so the example "${example}" was taken.` : "";
  }

  /** What all modes had in common, as sentences. */
  function shared(job) {
    return `${exampleNote(job)} ${cost(job)}`.trim();
  }

  /** What image and prompt took, and whether speeds can be compared. */
  function cost({ first, parallel, runs }) {
    if (!first) return "";
    const { duration } = vlmDlm.parts;
    const isTold = first.prefill_ms != null; // an engine may not say
    let words = `The prompt has ${first.prompt_tokens} tokens.`;
    if (isTold && first.is_prompt_cached) words = "The prompt was in the cache already, so no mode had to compute it.";
    if (isTold && !first.is_prompt_cached) {
      const times = `image ${duration(first.vision_ms)}, prompt of ${first.prompt_tokens} tokens ${duration(first.prefill_ms)}`;
      words = `The prompt was computed once (${times}) and taken over by all the others.`;
    }
    const isApart = isTold && Object.values(runs[0] ?? {}).some((run) => !run.is_prompt_told);
    if (isApart)
      words += " A mode without these times ran on an engine of its own, which computed the prompt for itself.";
    return parallel ? `${words} The modes ran at once and slowed each other down: their speeds say little.` : words;
  }

  return { make, light, shared, exampleNote };
})();
