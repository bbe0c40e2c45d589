// Above and below the panels: what colours mean, whether differences are marked, what figures mean.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.toolbar = (() => {
  const { make } = vlmDlm.parts;
  const COLORS = [
    ["origin", "Origin"],
    ["step", "Step"],
    ["confidence", "Confidence"],
  ];
  const FIGURES = [
    ["tokens per second", "Tokens of the answer, by the time of writing alone."],
    ["forward", "One pass through the model. Fewer passes for the same answer is what the modes are about."],
    [
      "first token",
      "From when the mode was asked until its first final token, so waiting in the queue is in it. Image and prompt are in that of the first mode; the others take them over.",
    ],
    ["first whole sentence", "From the same moment until one can start to read."],
    [
      "wasted positions",
      "Positions computed beyond one per token: masks seen again, drafts thrown away. Work that a busy server would miss. The first token comes with the prompt and needs none.",
    ],
    [
      "identical to AR",
      "The same tokens as the autoregressive mode. Where they differ, a small margin means a near tie that rounding may decide.",
    ],
  ];

  /** Radio buttons for the colours, a switch for differences, the legend. */
  function build({ onColor, onDiff }) {
    const bar = make("div", "vd-toolbar");
    const group = make("fieldset", "vd-switch");
    group.append(make("legend", "", "Colours show"));
    for (const [value, words] of COLORS) {
      const label = make("label");
      const radio = make("input");
      Object.assign(radio, { type: "radio", name: "vd-color", value, checked: value === COLORS[0][0] });
      radio.addEventListener("change", () => onColor(value));
      label.append(radio, make("span", "", words));
      group.append(label);
    }
    const diff = make("label", "vd-diff-switch");
    const box = make("input");
    Object.assign(box, { type: "checkbox", disabled: true, id: "vd-diff" });
    box.addEventListener("change", () => onDiff(box.checked));
    diff.append(box, make("span", "", "Show differences from AR"));
    const legend = make("div");
    bar.append(group, diff, legend);
    return { bar, box, legend };
  }

  /** What the figures mean, folded away. */
  function help() {
    const details = make("details", "vd-help");
    const list = make("dl");
    for (const [name, words] of FIGURES) list.append(make("dt", "", name), make("dd", "", words));
    details.append(make("summary", "", "What the figures mean"), list);
    return details;
  }

  return { build, help };
})();
