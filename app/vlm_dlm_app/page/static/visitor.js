// What the Python views need of this tab: its image, the images of its conversation, and a download.
// None of it is kept on the server.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.visitor = (() => {
  // The server has the sentence for it, so that it is shown as all others are.
  const UNREADABLE = "unreadable";
  const LINES = "[data-image-line]";
  let said = [];

  /** The picture of the Compare view as a data URI, once it is read; without one the first example
   * is taken. UNREADABLE where the file is none. */
  async function image() {
    await vlmDlm.compare.someImage();
    return vlmDlm.compare.imageFailed ? UNREADABLE : vlmDlm.compare.imageDataUri();
  }

  /** What the next answer is about, in every view that says so. */
  function showImage() {
    const { image: shown, imageFailed } = vlmDlm.compare;
    for (const line of document.querySelectorAll(LINES)) {
      const words = document.createElement("span");
      line.style.cssText = "display: flex; align-items: center; gap: 10px; min-height: 48px";
      line.replaceChildren(words);
      if (shown && shown.width === null) {
        words.textContent = `Image: ${shown.name}, which cannot be shown. Choose another one in the Compare view.`;
      } else if (shown) {
        words.textContent = `Image: ${shown.name}`;
        line.prepend(thumbnail(shown));
      } else if (imageFailed) {
        words.textContent = "Image: the file could not be read. Choose another one in the Compare view.";
      } else {
        words.textContent = "Image: none yet. The first example will be taken.";
      }
    }
  }

  /** A small picture; its name stands beside it. */
  function thumbnail({ uri }) {
    const picture = document.createElement("img");
    picture.src = uri;
    picture.alt = "";
    picture.style.cssText = "width: 64px; height: 48px; object-fit: contain; border-radius: 5px; background: #ffffff";
    return picture;
  }

  /** All images of the conversation, as JSON. */
  function images() {
    return JSON.stringify(said);
  }

  /** The same, with the picture of the Compare view at the end if it is another one. */
  async function imagesWithNewest() {
    const newest = await image();
    if (newest === UNREADABLE) return newest;
    if (newest && newest !== said[said.length - 1]) said.push(newest);
    return images();
  }

  /** Begin anew. */
  function forget() {
    said = [];
  }

  /** Hand a text to the visitor as a file. */
  function download(text, name, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  vlmDlm.compare.imageListeners.push(showImage);
  showImage();

  return { image, showImage, images, imagesWithNewest, forget, download };
})();
