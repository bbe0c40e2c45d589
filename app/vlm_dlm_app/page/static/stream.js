// Server-sent events over fetch, and failures as sentences.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.stream = (() => {
  const HINTS = {
    queue_full: "Others are ahead of you; try again in a moment.",
    unavailable: "Try again in a moment.",
    deadline: "Ask for fewer tokens, or try again when less is running.",
  };

  /** An API error as a sentence a person can act on. */
  function sentence(error, status) {
    const text = String(error?.message ?? "").trim();
    if (!text) return `The server answered with status ${status}.`;
    const whole = text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
    const hint = HINTS[error.code] ?? (status === 413 && /image|picture/i.test(text) ? "Choose a smaller image." : "");
    return hint ? `${whole} ${hint}` : whole;
  }

  /** The sentence of a reply that is an error. */
  async function failure(reply) {
    let body = null;
    try {
      body = await reply.json();
    } catch {
      // Not from us, a proxy for instance.
    }
    return new Error(sentence(body?.error, reply.status));
  }

  /** Name and data of one event, null for comments. */
  function parse(text) {
    let name = "message";
    const data = [];
    for (const line of text.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    }
    return data.length ? { name, data: data.join("\n") } : null;
  }

  /** Calls onEvent(name, data) for each event. Throws an Error with a sentence, or AbortError. */
  async function read(reply, onEvent) {
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = parse(part);
        if (!event || event.data === "[DONE]") continue;
        const data = JSON.parse(event.data);
        if (event.name === "message" && data.error) throw new Error(sentence(data.error, 500));
        onEvent(event.name, data);
      }
    }
  }

  /** POST a form and follow the answer. */
  async function post(url, form, { signal, onEvent }) {
    let reply;
    try {
      reply = await fetch(url, { method: "POST", body: form, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server cannot be reached. Is it still running?");
    }
    if (!reply.ok) throw await failure(reply);
    try {
      await read(reply, onEvent);
    } catch (error) {
      if (error instanceof TypeError)
        throw new Error("The connection to the server was lost. Press Compare to try again.");
      throw error;
    }
  }

  return { post, sentence };
})();
