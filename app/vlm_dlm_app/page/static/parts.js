window.vlmDlm = window.vlmDlm || {};

/** Small things that several views share. */
vlmDlm.parts = (() => {
  /** An element with a class, a text and children. */
  function make(tag, name, text, ...children) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined && text !== null) element.textContent = text;
    element.append(...children);
    return element;
  }

  /** Places in a token's row. The stream's rows have those up to the text. */
  const ROW = Object.freeze({
    ID: 0,
    ORIGIN: 1,
    BLOCK: 2,
    STEP: 3,
    CONFIDENCE: 4,
    MARGIN: 5,
    TEXT: 6,
    TIME: 7,
    FORWARDS: 8,
  });

  /** Words as a sentence of their own. */
  function sentence(words) {
    return words && `${words[0].toUpperCase()}${words.slice(1)}.`;
  }

  /** Milliseconds for people; `page/speeds.py` has the same for pages that the server makes. */
  function duration(ms) {
    if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
    return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
  }

  /** The place of a part of the stage, made after the panels where it is missing. */
  function placeOf(id) {
    const found = document.getElementById(id);
    if (found) return found;
    const { slot } = vlmDlm.compare;
    const place = slot ? vlmDlm.compare.slot(id) : make("section");
    if (!slot) (document.getElementById("stage") || document.body).append(place);
    place.id = id;
    return place;
  }

  const pictures = new WeakMap(); // by record: the control may hold another one by now

  /** Which image was asked about; null for none. */
  function rememberPicture(record, image) {
    pictures.set(record, image?.uri ?? null);
  }

  /** The picture that a record is about, as a data URI; null without one. */
  function pictureOf(record) {
    return pictures.get(record) ?? null;
  }

  /** Call `listener` with every finished record. */
  function onRecord(listener) {
    queueMicrotask(() => {
      // by then all scripts have run
      if (!vlmDlm.compare) return;
      vlmDlm.compare.listeners ??= [];
      vlmDlm.compare.listeners.push((record) => {
        setTimeout(() => listener(record)); // each view in a task of its own, so that none is long
      });
    });
  }

  return { ROW, make, sentence, duration, placeOf, onRecord, rememberPicture, pictureOf };
})();
