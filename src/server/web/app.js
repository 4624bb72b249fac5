// The page: two tabs, the model's name and the server's health.

import * as api from "./api.js";
import * as charts from "./charts.js";
import * as chat from "./chat.js";

const kHealthMs = 5000;
const find = (id) => document.getElementById(id);

function openTab(name) {
  for (const tab of ["chat", "metrics"]) {
    find(tab).hidden = tab !== name;
    find(`tab-${tab}`).setAttribute("aria-pressed", tab === name);
  }
  charts.stop();
  if (name === "metrics") charts.start();
}

async function showHealth() {
  let status = "not reachable";
  try {
    status = await api.health();
    if (!find("model").textContent) find("model").textContent = await api.modelName();
  } catch {
    // The word says it; the next look may find it well.
  }
  find("health").textContent = status === "ok" ? "" : status;
  find("health").classList.toggle("bad", status !== "ok");
  setTimeout(showHealth, kHealthMs);
}

find("tab-chat").addEventListener("click", () => openTab("chat"));
find("tab-metrics").addEventListener("click", () => openTab("metrics"));
find("open-settings").addEventListener("click", () => {
  const settings = find("settings");
  settings.hidden = !settings.hidden;
  find("open-settings").setAttribute("aria-expanded", !settings.hidden);
});
chat.start();
showHealth();
