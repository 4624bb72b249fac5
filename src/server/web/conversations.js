// The conversations, kept in the browser.

const kStore = "gale.conversations";

function load() {
  try {
    return JSON.parse(localStorage.getItem(kStore)) ?? [];
  } catch {
    return [];
  }
}

let all = load();

/** {id, messages: [{role, content}]}, the latest first. */
export function conversations() {
  return all;
}

export function create() {
  const conversation = { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), messages: [] };
  all.unshift(conversation);
  return conversation;
}

export function remove(conversation) {
  all = all.filter((other) => other !== conversation);
  save();
}

export function title(conversation) {
  return conversation.messages[0]?.content.slice(0, 60) || "New chat";
}

export function save() {
  localStorage.setItem(kStore, JSON.stringify(all.filter(({ messages }) => messages.length > 0)));
}
