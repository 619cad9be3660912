// The server, as the page needs it. Errors are `Trouble`, with a message for people.

export class Trouble extends Error {
  constructor(message, { status = 0, isGone = false } = {}) {
    super(message);
    this.status = status;
    this.isGone = isGone; // nobody answers, or not for now
  }
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer.", { isGone: true });
  }
  return response;
}

async function refused(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch { /* not ours: the number has to do */ }
  const after = response.headers.get("Retry-After");
  return new Trouble(after && !message.includes(after) ? `${message} (in ${after} s)` : message, {
    status: response.status,
    isGone: response.status === 503,
  });
}

function post(body, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

export async function health() {
  const response = await send("health", { cache: "no-store" });
  return response.json();
}

export async function modelName() {
  const response = await send("v1/models", {});
  if (!response.ok) throw await refused(response);
  return (await response.json()).data[0].id;
}

export async function ask(path, body, signal) {
  const response = await send(path, post(body, signal));
  if (!response.ok) throw await refused(response);
  return response.json();
}

// Every chunk of a stream of server-sent events, to its end.
export async function* stream(path, body, signal) {
  const response = await send(path, post({ ...body, stream: true }, signal));
  if (!response.ok) throw await refused(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let isWhole = false;
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        if (event === "data: [DONE]") { isWhole = true; continue; }
        const chunk = JSON.parse(event.slice(6));
        if (chunk.error) throw new Trouble(chunk.error.message, { isGone: chunk.error.code === "shutting_down" });
        yield chunk;
      }
    }
  } catch (error) {
    if (error instanceof Trouble || error.name === "AbortError") throw error;
    throw new Trouble("The connection was lost.", { isGone: true });
  }
  if (!isWhole) throw new Trouble("The connection was lost.", { isGone: true });
}
