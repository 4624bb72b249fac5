// The chat: conversations at the left, messages, the composer and the settings.

import * as api from "./api.js";
import * as store from "./conversations.js";
import { render } from "./markdown.js";

const find = (id) => document.getElementById(id);
let current = store.conversations()[0] ?? store.create();
let running = null;  // the AbortController of the reply that is coming

function showConversations() {
  find("conversations").replaceChildren(...store.conversations().map((conversation) => {
    const open = document.createElement("button");
    open.className = "open";
    open.textContent = store.title(conversation);
    open.setAttribute("aria-current", conversation === current);
    open.addEventListener("click", () => show(conversation));
    const remove = document.createElement("button");
    remove.className = "delete";
    remove.textContent = "×";
    remove.title = "Delete";
    remove.addEventListener("click", () => {
      store.remove(conversation);
      show(conversation === current ? store.conversations()[0] ?? store.create() : current);
    });
    const item = document.createElement("li");
    item.append(open, remove);
    return item;
  }));
}

function messageNode({ role, content, note }) {
  const node = document.createElement("div");
  node.className = `message ${role}`;
  node.append(...(role === "user" ? [content] : render(content)));
  if (note) {
    const line = document.createElement("p");
    line.className = "note";
    line.textContent = note;
    node.append(line);
  }
  return node;
}

function show(conversation) {
  running?.abort();
  current = conversation;
  find("messages").replaceChildren(...conversation.messages.map(messageNode));
  find("error").hidden = true;
  find("figures").textContent = "";
  showConversations();
  find("messages").scrollTop = find("messages").scrollHeight;
  find("input").focus();
}

/** What of the settings has a value, as the API names it. */
function parameters() {
  const fields = new FormData(find("settings"));
  const values = {};
  for (const [name, value] of fields) {
    if (value !== "" && name !== "system" && name !== "key") values[name] = Number(value);
  }
  return values;
}

function prompt(messages) {
  const system = find("settings").elements.system.value.trim();
  const said = messages.map(({ role, content }) => ({ role, content }));
  return system ? [{ role: "system", content: system }, ...said] : said;
}

function setRunning(controller) {
  running = controller;
  find("send").hidden = controller !== null;
  find("stop").hidden = controller === null;
}

function figures(usage, start, first) {
  const total = performance.now() - start;
  const rate = usage.completion_tokens > 1
    ? `, ${((usage.completion_tokens - 1) * 1000 / (start + total - first)).toFixed(1)} tokens/s` : "";
  return `${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out, ` +
    `first after ${Math.round(first - start)} ms${rate}`;
}

/** Draws a growing reply at most once a frame, and follows it while the end is in view. */
class LiveMessage {
  constructor(reply) {
    this.reply = reply;
    this.node = messageNode(reply);
    this.node.classList.add("streaming");
    find("messages").append(this.node);
    this.frame = 0;
  }
  update() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }
  draw() {
    this.frame = 0;
    const log = find("messages");
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    this.node.replaceChildren(...messageNode(this.reply).childNodes);
    if (follows) log.scrollTop = log.scrollHeight;
  }
  end() {
    cancelAnimationFrame(this.frame);
    this.draw();
    this.node.classList.remove("streaming");
  }
}

async function send(text) {
  const conversation = current;
  conversation.messages.push({ role: "user", content: text });
  show(conversation);
  const reply = { role: "assistant", content: "" };
  const live = new LiveMessage(reply);
  const controller = new AbortController();
  setRunning(controller);
  const start = performance.now();
  let first = start;
  try {
    for await (const news of api.chat(prompt(conversation.messages), parameters(), controller.signal)) {
      if (news.text) {
        if (reply.content === "") first = performance.now();
        reply.content += news.text;
        live.update();
      }
      if (news.reason === "length") reply.note = "(stopped: no room for more tokens)";
      if (news.usage && conversation === current) find("figures").textContent = figures(news.usage, start, first);
    }
  } catch (error) {
    if (error.name === "AbortError") {
      reply.note = "(stopped)";
    } else {
      find("error").textContent = error.message;
      find("error").hidden = false;
    }
  }
  if (reply.content) conversation.messages.push(reply);
  live.end();
  if (!reply.content && !reply.note) live.node.remove();
  if (running === controller) setRunning(null);
  store.save();
  showConversations();
}

function loadSettings() {
  const form = find("settings");
  const kept = JSON.parse(localStorage.getItem("gale.settings") ?? "{}");
  for (const [name, value] of Object.entries(kept)) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  form.elements.key.value = api.key;
  form.addEventListener("input", () => {
    const { key, ...values } = Object.fromEntries(new FormData(form));
    api.setKey(key);
    localStorage.setItem("gale.settings", JSON.stringify(values));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

export function start() {
  loadSettings();
  find("new-chat").addEventListener("click", () => {
    show(current.messages.length === 0 ? current : store.create());
  });
  find("stop").addEventListener("click", () => running?.abort());
  find("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = find("input").value.trim();
    if (!text || running) return;
    find("input").value = "";
    send(text);
  });
  find("input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find("composer").requestSubmit();
  });
  show(current);
}
