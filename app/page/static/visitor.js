// What the Python views need of this tab: its image, the images of its conversation, and a download.
// None of it is kept on the server.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.visitor = (() => {
  let said = [];

  /** The picture of the Compare view as a data URI, once it is read; "" for none. */
  async function image() {
    await Promise.resolve(vlmDlm.compare.loading).catch(() => null);
    return (await vlmDlm.compare.imageDataUri()) || "";
  }

  /** All images of the conversation, as JSON. */
  function images() {
    return JSON.stringify(said);
  }

  /** The same, with the picture of the Compare view at the end if it is another one. */
  async function imagesWithNewest() {
    const newest = await image();
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

  return { image, images, imagesWithNewest, forget, download };
})();
