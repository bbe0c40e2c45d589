/** Brings a report to life: it has the record in itself. */
(() => {
  const { record, image } = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.body.classList.toggle("dark", dark.matches);
  follow();
  dark.addEventListener("change", follow);
  vlmDlm.replay.show(document.getElementById("replay"), record);
  vlmDlm.encoder.show(document.getElementById("encoder"), record, image);
})();
