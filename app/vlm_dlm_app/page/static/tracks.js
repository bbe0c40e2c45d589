window.vlmDlm = window.vlmDlm || {};

/** What each mode had written at a moment, from the times that the engine recorded. Needs parts. */
vlmDlm.tracks = (() => {
  const { TIME, FORWARDS } = vlmDlm.parts.ROW;

  /** When a mode had its prompt: its clock starts there, so that all modes start together. */
  function beganAt(answer) {
    const metrics = answer.result?.metrics;
    if (!answer.tokens.length) return 0;
    const first = answer.tokens[0][TIME];
    if (!metrics) return 0;
    const { vision_time_ms: image, prefill_time_ms: prompt } = metrics;
    return image == null || prompt == null ? first : Math.min(image + prompt, first); // null: the engine does not say
  }

  /** The moments at which tokens became final: [{time, forwards, end}], end = tokens so far. */
  function commitsOf(tokens, began) {
    const commits = [];
    tokens.forEach((token, index) => {
      const last = commits[commits.length - 1];
      const time = token[TIME] - began,
        forwards = token[FORWARDS];
      if (last && last.time === time && last.forwards === forwards) last.end = index + 1;
      else commits.push({ time, forwards, end: index + 1 });
    });
    return commits;
  }

  /** One mode: its tokens, its moments, and what it had at a place on the axis. */
  function trackOf(record, mode) {
    const answer = record.answers[mode];
    const commits = commitsOf(answer.tokens, beganAt(answer));
    return { mode, title: answer.title || mode, tokens: answer.tokens, commits, shown: [0, 0] };
  }

  /** How many moments have passed. */
  function passed(commits, axis, at) {
    let low = 0,
      high = commits.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (commits[middle][axis] <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The state at a place: final tokens, end of the block in work, forwards run. */
  function stateAt(track, axis, at) {
    const { commits } = track,
      count = passed(commits, axis, at);
    const before = count ? commits[count - 1] : { time: 0, forwards: 0, end: 0 };
    const next = commits[count];
    if (!next) return { done: before.end, work: before.end, forwards: before.forwards };
    let forwards = at;
    if (axis === "time") {
      // the steps between two moments are spread evenly
      const share = (at - before.time) / Math.max(next.time - before.time, 1e-9);
      forwards = before.forwards + Math.floor(share * (next.forwards - before.forwards));
    }
    return { done: before.end, work: next.end, forwards };
  }

  return { trackOf, stateAt, beganAt };
})();
