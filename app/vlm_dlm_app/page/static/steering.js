window.vlmDlm = window.vlmDlm || {};

/** How a replay is steered: its button and bar, a pointer on its lanes, keys. */
vlmDlm.steering = (() => {
  const LEAST_JUMP_MS = 1; // so that every press shows

  /** From now on `view` moves as it is told. */
  function listen(view) {
    view.play.addEventListener("click", () => view.toggle());
    view.bar.addEventListener("input", () => {
      view.setPlaying(false);
      view.moveTo(Number(view.bar.value));
    });
    view.root.onkeydown = (event) => onKey(view, event);
    const scrub = (event) => {
      const box = view.tracks[0].lane.getBoundingClientRect();
      const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      view.setPlaying(false);
      view.moveTo(share * view.end);
    };
    view.lanes.addEventListener("pointerdown", (event) => {
      view.lanes.setPointerCapture(event.pointerId);
      scrub(event);
    });
    view.lanes.addEventListener("pointermove", (event) => {
      if (event.buttons) scrub(event);
    });
  }

  /** Space, arrows, Home, End, + and -, A; keys that the focused part takes itself stay its own. */
  function onKey(view, event) {
    const { target, key } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.tagName === "SELECT" || target.closest(".replay-text")) return;
    if (key === " " && target.tagName === "BUTTON") return;
    const actions = {
      " ": () => view.toggle(),
      ArrowRight: () => jump(view, 1),
      ArrowLeft: () => jump(view, -1),
      Home: () => view.moveTo(0),
      End: () => view.moveTo(view.end),
      "+": () => view.faster(1),
      "=": () => view.faster(1),
      "-": () => view.faster(-1),
      a: () => view.setAxis(view.axis === "time" ? "forwards" : "time"),
    };
    if (!actions[key]) return;
    event.preventDefault();
    if (key.length > 1) view.setPlaying(false);
    actions[key]();
  }

  /** To the next or the last moment before this one at which any mode changes. */
  function jump(view, direction) {
    if (view.axis === "forwards") {
      const from = direction > 0 ? Math.floor(view.at) : Math.ceil(view.at);
      view.moveTo(from + direction);
      return;
    }
    const times = view.tracks.flatMap(({ commits }) => commits.map(({ time }) => time));
    const found =
      direction > 0
        ? Math.min(...times.filter((time) => time >= view.at + LEAST_JUMP_MS), view.end)
        : Math.max(...times.filter((time) => time <= view.at - LEAST_JUMP_MS), 0);
    view.moveTo(found);
  }

  return { listen };
})();
