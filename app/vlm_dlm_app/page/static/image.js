// The image of the first view: from a file, the clipboard or an example.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.image = (() => {
  const EXAMPLE = ".vd-example";
  const FILE_INPUT = "#image input[type=file]";

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

  return { load, takePasted, takeExample };
})();
