// The image of the first view: from a file, the clipboard or an example.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.image = (() => {
  const EXAMPLE = ".vd-example";
  const FILE_INPUT = "#image input[type=file]";

  // What is uploaded lies on the server for this tab: it is let go with the next picture, and with
  // the tab.
  const UPLOADS = "gradio_api/upload";
  let uploaded = null;

  /** Let go of the picture that was uploaded last, unless it is this one. */
  function letGo(file = null) {
    if (uploaded && uploaded !== file?.path) {
      const body = new Blob([JSON.stringify({ paths: [uploaded] })], { type: "application/json" });
      navigator.sendBeacon(new URL("page/free", document.baseURI), body);
    }
    uploaded = file?.path?.startsWith("/uploads/") ? file.path : null;
  }

  /** Gradio shows what a refused upload is answered with as it is: give it the sentence alone. */
  function speakPlainly() {
    const plain = window.fetch;
    window.fetch = async (input, init) => {
      const reply = await plain(input, init);
      if (reply.ok || !String(input?.url ?? input).includes(UPLOADS)) return reply;
      const sentence = (
        await reply
          .clone()
          .json()
          .catch(() => null)
      )?.error?.message;
      return sentence ? new Response(sentence, { status: reply.status }) : reply;
    };
  }

  window.addEventListener("pagehide", () => letGo());
  speakPlainly();

  /** A file of Gradio's as {blob, uri, name, width, height}; no size where the browser cannot show it. */
  async function load(file) {
    const blob = await (await fetch(file.url)).blob();
    const uri = await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(blob);
    });
    const size = await createImageBitmap(blob).catch(() => ({ width: null, height: null }));
    const name = file.orig_name || "image";
    return { blob, uri, name, width: size.width, height: size.height };
  }

  /** Put a file where an upload goes. */
  function give(file) {
    const input = document.querySelector(FILE_INPUT);
    if (!input) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  /** Ctrl+V anywhere in the view takes a picture from the clipboard; text is pasted as ever. */
  function takePasted(view) {
    let newest = null; // of several in quick succession
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (!file || !view.offsetParent) return;
      event.preventDefault();
      const remove = document.querySelector('#image [aria-label="Remove Image"]');
      remove?.click(); // while one is shown there is no place for another
      newest = file;
      setTimeout(() => file === newest && give(file), 200);
    });
  }

  /** Choose the first example; its title, "" without examples. */
  function takeExample() {
    const button = document.querySelector(EXAMPLE);
    button?.click();
    return button?.dataset.title ?? "";
  }

  return { load, letGo, takePasted, takeExample };
})();
