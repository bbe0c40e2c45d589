// What a comparison runs, from what the controls say.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.job = (() => {
  /** Options by name, from where their controls stand; without those that are left to the modes. */
  function settingsOf(places) {
    const settings = {};
    for (const [i, { name, rest, isFlag }] of vlmDlm.told.controls.entries()) {
      const place = places[i];
      if (place != null && place !== rest) settings[name] = isFlag ? place === "true" : place;
    }
    return settings;
  }

  /** Per mode the options it has, from the settings. */
  function modeOptions(modes, settings) {
    const own = {};
    for (const { name, options } of modes) {
      const has = Object.entries(settings).filter(([key]) => options.includes(key));
      if (has.length) own[name] = Object.fromEntries(has);
    }
    return own;
  }

  /** asked: prompt, modes, image, example. places: of the modes' options, in the order in which the
   * page has their controls. */
  function make(asked, maxTokens, temperature, seed, numRuns, parallel, ...places) {
    const settings = settingsOf(places);
    const options = { temperature: temperature || 0, include_drafts: true, draft_interval_ms: 100 };
    if (maxTokens > 0) options.max_tokens = maxTokens; // else what fits
    if (seed != null && seed !== "") options.seed = seed;
    return {
      ...asked,
      parallel,
      options,
      runs: [],
      summary: null,
      model: null,
      modeOptions: modeOptions(asked.modes, settings),
      settings,
      numRuns: numRuns || 1,
    };
  }

  return { make };
})();
