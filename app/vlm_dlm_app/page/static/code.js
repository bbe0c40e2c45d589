window.vlmDlm = window.vlmDlm || {};

/** A comparison as code: curl, Python, a link with its settings, and settings from such a link. */
vlmDlm.code = (() => {
  const OF_THE_PAGE = ["include_drafts", "draft_interval_ms"]; // change only what is shown
  const OF_MODES = vlmDlm.told.options; // of modes, as requests name them
  const KEY = "YOUR_KEY"; // where the server asks for one; the page never sees the visitor's own
  const OF_OPENAI = ["max_tokens", "temperature", "top_p", "seed", "stop"];

  /** The options that change the answer. */
  function optionsOf(record) {
    return Object.fromEntries(
      Object.entries(record.options).filter(
        ([name, value]) => value !== null && value !== undefined && !OF_THE_PAGE.includes(name),
      ),
    );
  }

  /** Whether modes were given options of their own. */
  function hasOwn(record) {
    return Object.keys(record.mode_options || {}).length > 0;
  }

  /** One word of a shell. */
  function quoted(text) {
    return `'${String(text).replaceAll("'", "'\\''")}'`;
  }

  /** The same call; --form-string, because -F would read files named in a prompt. */
  function curl(record, root, hasKeys = false) {
    const lines = [`curl ${quoted(`${root}v1/compare`)}`];
    if (hasKeys) lines.push(`-H 'Authorization: Bearer ${KEY}'`);
    if (record.image) {
      const name = record.image.name || "image.png";
      lines.push(`-F ${quoted(`image=@"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`)}`);
    }
    const fields = { prompt: record.prompt, modes: record.modes.join(",") },
      options = optionsOf(record);
    if (hasOwn(record)) {
      fields.mode_options = JSON.stringify(record.mode_options);
      for (const name of OF_MODES) delete options[name]; // a mode without one would refuse it
    }
    fields.options = JSON.stringify(options);
    if (record.parallel) fields.parallel = "true";
    for (const [name, value] of Object.entries(fields)) lines.push(`--form-string ${quoted(`${name}=${value}`)}`);
    return `${lines.join(" \\\n  ")}\n`;
  }

  /** Arguments of OpenAI's client and, apart, what only this server knows. */
  function argumentsOf(record, mode, details) {
    const plain = {},
      extra = {};
    const known =
      details.find(({ name }) => name === mode)?.options ?? (mode === vlmDlm.told.reference ? [] : OF_MODES);
    const all = { ...optionsOf(record), ...(record.mode_options?.[mode] || {}) };
    for (const [name, value] of Object.entries(all)) {
      if (OF_OPENAI.includes(name)) plain[name] = value;
      else if (known.includes(name) || !OF_MODES.includes(name)) extra[name] = value;
    }
    return { plain, extra };
  }

  /** A value as Python writes it; JSON differs only in three words. */
  function literal(value) {
    if (value === null) return "None";
    if (typeof value === "boolean") return value ? "True" : "False";
    if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
    if (typeof value !== "object") return JSON.stringify(value);
    return `{${Object.entries(value)
      .map(([name, part]) => `${JSON.stringify(name)}: ${literal(part)}`)
      .join(", ")}}`;
  }

  /** The image as part of a message. */
  function imageLines(image) {
    if (!image) return [];
    const name = image.name || "image.png",
      ending = name.split(".").pop().toLowerCase();
    const type =
      { jpg: "jpeg", jpeg: "jpeg", webp: "webp", gif: "gif", bmp: "bmp", tif: "tiff", tiff: "tiff", avif: "avif" }[
        ending
      ] || "png";
    return [
      `with open(${JSON.stringify(name)}, "rb") as file:`,
      `    image = "data:image/${type};base64," + base64.b64encode(file.read()).decode()`,
      "",
    ];
  }

  /** One chat completion per mode with OpenAI's client. details: modes as /v1/models has them. */
  function python(record, root, details = [], hasKeys = false) {
    const name = record.model.split(":")[0];
    const { plain } = argumentsOf(record, record.modes[0], []);
    const parts = [`{"type": "text", "text": ${JSON.stringify(record.prompt)}}`];
    if (record.image) parts.unshift('{"type": "image_url", "image_url": {"url": image}}');
    const given = Object.entries(plain).map(([key, value]) => `        ${key}=${literal(value)},`);
    return [
      ...(record.image ? ["import base64", ""] : []),
      "from openai import OpenAI",
      "",
      ...imageLines(record.image),
      `client = OpenAI(base_url=${JSON.stringify(`${root}v1`)}, api_key="${hasKeys ? KEY : "none"}")`,
      "messages = [",
      "    {",
      '        "role": "user",',
      '        "content": [',
      ...parts.map((part) => `            ${part},`),
      "        ],",
      "    }",
      "]",
      "models = {",
      ...record.modes.map(
        (mode) => `    ${JSON.stringify(`${name}:${mode}`)}: ${literal(argumentsOf(record, mode, details).extra)},`,
      ),
      "}",
      "for model, options in models.items():",
      "    answer = client.chat.completions.create(",
      "        model=model,",
      "        messages=messages,",
      ...given,
      "        extra_body=options,",
      "    )",
      "    print(model, answer.choices[0].message.content)",
      "",
    ].join("\n");
  }

  /** The page's address with the settings of a record. */
  function linkOf(record, root) {
    const link = new URL(root),
      { max_tokens, temperature, seed } = record.options;
    const values = {
      prompt: record.prompt,
      modes: record.modes.join(","),
      ...Object.fromEntries(vlmDlm.told.controls.map(({ name }) => [name, record.options[name]])),
      max_tokens,
      temperature,
      seed,
      runs: Math.max(record.runs?.length || 1, 1),
      parallel: record.parallel ? 1 : undefined,
    };
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined && value !== null) link.searchParams.set(name, value);
    }
    return link.href;
  }

  /** One value of a link, or the control's own where the link has none or a bad one. */
  function readSetting(text, spec, current) {
    if (text === null) return current;
    if (spec.kind === "text") return text.slice(0, spec.max);
    if (spec.kind === "flag") return text === "1" || text === "true";
    if (spec.kind === "choices") {
      const chosen = text.split(",").filter((name) => spec.choices.includes(name));
      return chosen.length ? chosen : current;
    }
    if (spec.kind === "choice") return spec.choices.includes(text) ? text : current;
    const number = Number(text);
    if (text.trim() === "" || !Number.isFinite(number)) return current;
    const { min, max, step } = spec;
    const onStep = min + Math.round((number - min) / step) * step;
    return Number(Math.min(Math.max(onStep, min), max).toFixed(6));
  }

  /** Values for the controls, in the order of `specs`, from the page's own address. */
  function settings(specs, current, search = location.search) {
    const query = new URLSearchParams(search);
    return specs.map((spec, index) => readSetting(query.get(spec.name), spec, current[index]));
  }

  return { curl, python, linkOf, settings };
})();
