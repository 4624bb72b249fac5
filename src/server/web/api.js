// Calls of the server's own API.

export let key = localStorage.getItem("gale.key") ?? "";

export function setKey(value) {
  key = value;
  localStorage.setItem("gale.key", value);
}

function headers(more = {}) {
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

async function errorOf(response) {
  const body = await response.json().catch(() => null);
  return new Error(body?.error?.message ?? `${response.status} ${response.statusText}`);
}

export async function modelName() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) throw await errorOf(response);
  return (await response.json()).data[0].id;
}

export async function health() {
  const response = await fetch("/health");
  return (await response.json()).status;
}

export async function metricsPage() {
  const response = await fetch("/metrics", { headers: headers() });
  if (!response.ok) throw await errorOf(response);
  return response.text();
}

/** The events of a stream, parsed, up to [DONE]. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const parts = pending.split("\n\n");
    pending = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;  // a comment that keeps the connection alive
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

/** Streams a reply: yields {text}, {reason} and {usage} as they come. */
export async function* chat(messages, parameters, signal) {
  const body = {
    messages, ...parameters, stream: true, stream_options: { include_usage: true },
  };
  const response = await fetch("/v1/chat/completions", {
    method: "POST", signal, body: JSON.stringify(body),
    headers: headers({ "Content-Type": "application/json" }),
  });
  if (!response.ok) throw await errorOf(response);
  for await (const event of events(response.body)) {
    if (event.usage) yield { usage: event.usage };
    for (const choice of event.choices) {
      if (choice.delta.content) yield { text: choice.delta.content };
      if (choice.finish_reason) yield { reason: choice.finish_reason };
    }
  }
}
