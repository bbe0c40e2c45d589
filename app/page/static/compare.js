window.vlmDlm = window.vlmDlm || {};
vlmDlm.compare = {
  mount(root, trigger) { this.root = root; this.root.textContent = "ready"; },
  setImage(image) { this.image = image; console.log("image", JSON.stringify(image)); },
  async start(prompt, modes, threshold, block, maxTokens, runs, parallel) {
    const form = new FormData();
    if (this.image) form.append("image", await (await fetch(this.image.url)).blob(), "image");
    form.append("prompt", prompt); form.append("modes", modes.join(",")); form.append("stream", "true");
    const reply = await fetch("v1/compare", {method: "POST", body: form});
    this.root.textContent = await reply.text();
  },
  stop() {},
};
