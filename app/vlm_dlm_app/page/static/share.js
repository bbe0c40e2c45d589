window.vlmDlm = window.vlmDlm || {};

/** Take it away: the call as code, the record as JSON, a link to the settings, the report. */
vlmDlm.share = (() => {
  const { make, placeOf, onRecord, pictureOf } = vlmDlm.parts;
  const { curl, python, linkOf } = vlmDlm.code;
  const MAX_SIDE = 1600,
    MAX_PNG_CHARS = 3e6; // of the picture in a report

  /** Save `content` as a file. */
  function save(content, type, name) {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** Into the clipboard, also on plain http where browsers have no `navigator.clipboard`. */
  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) {
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch {
        /* refused: the old way below asks nobody */
      }
    }
    const area = make("textarea");
    area.value = text;
    area.style.position = "fixed";
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  }

  /** The picture drawn anew, so that nothing but its pixels goes along. Null without one. */
  async function plainPicture(record) {
    const address = pictureOf(record);
    if (!address) return null;
    const picture = await vlmDlm.encoder.loaded(address),
      canvas = make("canvas");
    const scale = Math.min(1, MAX_SIDE / Math.max(picture.naturalWidth, picture.naturalHeight));
    canvas.width = Math.max(1, Math.round(picture.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(picture.naturalHeight * scale));
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    const png = canvas.toDataURL("image/png");
    return png.length <= MAX_PNG_CHARS ? png : canvas.toDataURL("image/jpeg", 0.9);
  }

  /** The report of a record as HTML. Throws an error with a sentence for people. */
  async function report(record, hasPicture) {
    const image = hasPicture ? await plainPicture(record) : null;
    const reply = await fetch(new URL("page/report", document.baseURI), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ record, image }),
    });
    if (reply.ok) return reply.text();
    const body = await reply.json().catch(() => null);
    throw new Error(body?.error?.message || `the server answered ${reply.status}`);
  }

  /** A button that does something and says how it went. */
  function action(text, status, said, act) {
    const button = make("button", "", text);
    button.type = "button";
    button.addEventListener("click", async () => {
      button.disabled = true;
      status.textContent = "";
      try {
        const isDone = await act();
        status.textContent =
          isDone === false ? "The browser does not let the page copy; select the text instead." : said;
      } catch (error) {
        status.textContent = `That did not work: ${error.message}.`;
      }
      button.disabled = false;
    });
    return button;
  }

  /** Name of a file made now. */
  function fileName(record, ending) {
    return `vlm-dlm-${record.created.slice(0, 19).replace(/[^0-9T]/g, "")}.${ending}`;
  }

  /** What each mode takes, as the server says; empty where it cannot be asked. */
  async function modeDetails() {
    try {
      const list = await (await fetch(new URL("v1/models", document.baseURI))).json();
      return list.data[0].vlm_dlm.modes;
    } catch {
      return [];
    }
  }

  /** Text of the call, shown and copied at once. */
  function codeActions(record, status, shown) {
    const present = (text) => {
      shown.textContent = text;
      shown.hidden = false;
      return copy(text);
    };
    const root = new URL(".", document.baseURI).href,
      { hasKeys } = vlmDlm.compare;
    return [
      action("Copy as curl", status, "Copied the curl command.", () => present(curl(record, root, hasKeys))),
      action("Copy as Python", status, "Copied the Python code.", async () =>
        present(python(record, root, await modeDetails(), hasKeys)),
      ),
      action("Copy link", status, "Copied a link to these settings; the image is not part of it.", () =>
        present(linkOf(record, root)),
      ),
    ];
  }

  /** Files to keep. */
  function fileActions(record, status) {
    const hasPicture = make("input");
    hasPicture.type = "checkbox";
    hasPicture.checked = Boolean(pictureOf(record));
    hasPicture.disabled = !hasPicture.checked;
    return [
      action("Download report", status, "Saved the report: one file that opens without a network.", async () => {
        save(await report(record, hasPicture.checked), "text/html", fileName(record, "html"));
      }),
      make("label", "", "", hasPicture, " with the picture (only its pixels)"),
      action("Download JSON", status, "Saved the record.", () => {
        save(JSON.stringify(record, null, 2), "application/json", fileName(record, "json"));
      }),
    ];
  }

  /** All of it in `root`, for one record. */
  function show(root, record) {
    root.classList.add("share");
    const status = make("p", "share-status"),
      shown = make("pre", "share-code");
    status.setAttribute("role", "status");
    shown.tabIndex = 0;
    shown.hidden = true;
    root.replaceChildren(
      make("h2", "", "Take it away"),
      make("div", "share-row", "", ...codeActions(record, status, shown)),
      make("div", "share-row", "", ...fileActions(record, status)),
      status,
      shown,
    );
  }

  onRecord((record) => show(placeOf("share"), record));
  return { show, report, copy, settings: vlmDlm.code.settings };
})();
