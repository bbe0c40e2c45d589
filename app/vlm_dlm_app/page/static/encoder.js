window.vlmDlm = window.vlmDlm || {};

/** What the encoder saw: the picture at its size, cell by cell, and where the time went. */
vlmDlm.encoder = (() => {
  const { make, duration, placeOf, onRecord, pictureOf } = vlmDlm.parts;
  const MAX_HEIGHT = 480; // of the picture on the screen
  const PARTS = [
    ["image", "Image"],
    ["prompt", "Prompt"],
    ["writing", "Writing"],
  ];

  /** A picture from an address, ready to draw. */
  function loaded(address) {
    return new Promise((resolve, reject) => {
      const picture = new Image();
      picture.onload = () => resolve(picture);
      picture.onerror = () => reject(new Error("the picture cannot be drawn"));
      picture.src = address;
    });
  }

  /** Milliseconds of every mode by part. The first two are done once and count for each, but for
      a mode whose engine does not say what they took. */
  function timesOf(record) {
    const { vision_ms: image, prefill_ms: prompt } = record.summary;
    return record.modes
      .filter((mode) => record.answers[mode]?.result?.metrics)
      .map((mode) => {
        const { title, result } = record.answers[mode],
          { decode_time_ms: writing, prefill_time_ms: own } = result.metrics;
        const times = own == null ? { writing } : { image, prompt, writing };
        return {
          title,
          times,
          total: Math.max(
            Object.values(times).reduce((a, b) => a + b),
            1e-9,
          ),
        };
      });
  }

  /** One bar per mode. */
  function timeBars(record) {
    const box = make("div", "encoder-times");
    const rows = timesOf(record),
      longest = Math.max(...rows.map((row) => row.total));
    for (const { title, times, total } of rows) {
      const bar = make("div", "encoder-bar"),
        words = [];
      for (const [part, name] of PARTS.filter(([part]) => times[part] != null)) {
        const piece = make("i", `part-${part}`);
        piece.style.width = `${(times[part] / longest) * 100}%`;
        bar.append(piece);
        words.push(`${name.toLowerCase()} ${duration(times[part])} (${Math.round((times[part] / total) * 100)} %)`);
      }
      bar.setAttribute("aria-hidden", "true");
      box.append(make("div", "encoder-row", "", make("strong", "", title), bar, make("span", "", words.join(", "))));
    }
    const key = make("p", "encoder-key");
    for (const [part, name] of PARTS) key.append(make("span", "", "", make("i", `part-${part}`), name));
    box.append(key);
    return rows.length ? box : make("div");
  }

  /** Lines between the cells, light on dark so that they show on any picture. */
  function drawGrid(canvas, { rows, columns }, thickness) {
    const pen = canvas.getContext("2d"),
      { width, height } = canvas;
    for (const [colour, line] of [
      ["rgba(0,0,0,.6)", 3],
      ["rgba(255,255,255,.95)", 1],
    ]) {
      pen.fillStyle = colour;
      const thick = line * thickness,
        back = Math.floor(thick / 2);
      for (let row = 1; row < rows; row++) pen.fillRect(0, Math.round((row * height) / rows) - back, width, thick);
      for (let column = 1; column < columns; column++)
        pen.fillRect(Math.round((column * width) / columns) - back, 0, thick, height);
    }
  }

  /** The picture scaled as the encoder's was. */
  function scaled(picture, { width, height }) {
    const canvas = make("canvas");
    Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture, 0, 0, width, height);
    return canvas;
  }

  /** Fills the room there is, pixel by pixel of the screen, so that thin lines stay even. */
  function drawPicture(canvas, source, room, seen, hasGrid) {
    const density = window.devicePixelRatio || 1;
    const size = { width: source.naturalWidth || source.width, height: source.naturalHeight || source.height };
    const scale = Math.min(room / size.width, MAX_HEIGHT / size.height);
    canvas.width = Math.max(1, Math.round(size.width * scale * density));
    canvas.height = Math.max(1, Math.round(size.height * scale * density));
    canvas.style.width = `${canvas.width / density}px`;
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = !hasGrid || scale * density < 1;
    pen.drawImage(source, 0, 0, canvas.width, canvas.height);
    if (hasGrid) drawGrid(canvas, seen, Math.max(1, Math.round(density)));
  }

  /** What stands beside the picture. */
  function factsOf(record, seen, picture) {
    const { image_tokens: tokens, prompt_tokens: prompt, is_prompt_cached: cached } = record.summary;
    const size = record.image || (picture && { width: picture.naturalWidth, height: picture.naturalHeight });
    const facts = [
      size && seen && `${size.width} × ${size.height} pixels were scaled to ${seen.width} × ${seen.height}.`,
      seen &&
        `${seen.rows} rows of ${seen.columns} cells make ${seen.rows * seen.columns} image tokens. With the marks around and between rows, ${seen.num_tokens} of the ${prompt} tokens of the prompt are the image.`,
      !seen && `${tokens} of the ${prompt} tokens of the prompt are the image.`,
      seen && "What is smaller than a cell is easily missed.",
      cached && "Image and prompt were still there from an earlier run, so they took almost no time.",
    ];
    return make("ul", "encoder-facts", "", ...facts.filter(Boolean).map((fact) => make("li", "", fact)));
  }

  /** A pair of buttons, one of them pressed. */
  function beforeAfter(onChange) {
    const group = make("div", "replay-axis");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Picture");
    const buttons = [
      ["As given", false],
      ["As the encoder saw it", true],
    ].map(([text, isAfter]) => {
      const button = make("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => choose(isAfter));
      button.dataset.after = isAfter;
      return button;
    });
    const choose = (isAfter) => {
      for (const button of buttons) {
        const isShown = (button.dataset.after === "true") === isAfter;
        button.setAttribute("aria-pressed", String(isShown));
      }
      onChange(isAfter);
    };
    group.append(...buttons);
    return { group, choose };
  }

  /** The picture with its switch, drawn anew when its room changes. */
  function pictureView(picture, seen) {
    const canvas = make("canvas", "encoder-canvas"),
      grid = make("input"),
      after = scaled(picture, seen);
    Object.assign(grid, { type: "checkbox", checked: true });
    canvas.setAttribute("role", "img");
    let isAfter = true,
      room = 0;
    const draw = () => {
      if (room) drawPicture(canvas, isAfter ? after : picture, room, seen, isAfter && grid.checked);
      canvas.setAttribute(
        "aria-label",
        isAfter
          ? `The picture at ${seen.width} by ${seen.height} pixels, in ${seen.rows} rows of ${seen.columns} cells`
          : "The picture as it was given",
      );
      grid.disabled = !isAfter;
    };
    const { group, choose } = beforeAfter((chosen) => {
      isAfter = chosen;
      draw();
    });
    grid.addEventListener("change", draw);
    choose(true);
    const box = make(
      "div",
      "encoder-picture",
      "",
      make("div", "encoder-switch", "", group, make("label", "", "", grid, " Cells")),
      canvas,
    );
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === room) return;
      room = contentRect.width;
      draw();
    }).observe(box);
    return box;
  }

  /** The whole view in `root`. address: of the picture, null without one. */
  async function show(root, record, address) {
    root.textContent = "";
    root.classList.add("encoder");
    const seen = record.summary?.images?.[0];
    root.hidden = !record.summary;
    if (!record.summary) return;
    let picture = null;
    if (address && seen) picture = await loaded(address).catch(() => null);
    const body = make("div", "encoder-body");
    if (picture) body.append(pictureView(picture, seen));
    body.append(make("div", "encoder-side", "", factsOf(record, seen, picture), timeBars(record)));
    root.replaceChildren(make("h2", "", "What the encoder saw"), body);
  }

  onRecord((record) => show(placeOf("encoder"), record, pictureOf(record)));
  return { show, loaded };
})();
