// Live charts of /metrics: what runs, how full the cache is, how fast tokens come.

import * as api from "./api.js";

const kIntervalMs = 1000;
const kPoints = 180;

/** name without its prefix -> {labels: value}; samples with other labels are added up by name. */
export function parse(page) {
  const values = new Map();
  for (const line of page.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*?)(\{[^}]*\})? (\S+)$/.exec(line);
    if (!match) continue;
    const bucket = /le="([^"]+)"/.exec(match[2] ?? "")?.[1];
    const name = match[1].replace(/^(gale_|vllm:)/, "");
    const entry = values.get(name) ?? { total: 0, buckets: new Map() };
    entry.total += Number(match[3]);
    if (bucket) entry.buckets.set(bucket, (entry.buckets.get(bucket) ?? 0) + Number(match[3]));
    values.set(name, entry);
  }
  return values;
}

const total = (page, name) => page.get(name)?.total ?? 0;
const rate = (name) => (now, before, seconds) =>
  before ? Math.max(0, total(now, name) - total(before, name)) / seconds : 0;

/** The upper end of the bucket that holds the share of what came since `before`; null: nothing. */
export function quantile(name, share) {
  return (now, before) => {
    const counts = now.get(`${name}_bucket`)?.buckets;
    const old = before?.get(`${name}_bucket`)?.buckets;
    if (!counts || !old) return null;
    const news = [...counts].map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)]);
    const all = news.at(-1)[1];
    if (all === 0) return null;
    const [bound] = news.find(([, count]) => count >= share * all);
    return bound === "+Inf" ? null : Number(bound) * 1000;
  };
}

const gauge = (name, factor = 1) => (now) => total(now, name) * factor;

const kCharts = [
  { title: "Sequences", unit: "", lines: [
    { name: "running", value: gauge("num_requests_running") },
    { name: "waiting", value: gauge("num_requests_waiting") }] },
  { title: "Generated", unit: "tokens/s", lines: [
    { name: "generated", value: rate("generation_tokens_total") }] },
  { title: "Prompts", unit: "tokens/s", lines: [
    { name: "taken in", value: rate("prompt_tokens_total") },
    { name: "from the prefix cache", value: rate("prompt_tokens_cached_total") }] },
  { title: "KV cache", unit: "%", lines: [
    { name: "used", value: gauge("kv_cache_usage_perc", 100) }] },
  { title: "Time to first token", unit: "ms", lines: [
    { name: "median, at most", value: quantile("time_to_first_token_seconds", 0.5) },
    { name: "90%, at most", value: quantile("time_to_first_token_seconds", 0.9) }] },
  { title: "Between tokens", unit: "ms", lines: [
    { name: "median, at most", value: quantile("inter_token_latency_seconds", 0.5) },
    { name: "99%, at most", value: quantile("inter_token_latency_seconds", 0.99) }] },
];
const kColors = ["#1f8fb3", "#e08a3c"];

class Chart {
  constructor({ title, unit, lines }) {
    this.unit = unit;
    this.lines = lines.map((line) => ({ ...line, points: [] }));
    this.node = document.createElement("section");
    this.node.className = "chart";
    const head = document.createElement("h2");
    this.latest = document.createElement("span");
    head.append(title, this.latest);
    this.canvas = document.createElement("canvas");
    const legend = document.createElement("div");
    legend.className = "legend";
    this.lines.forEach(({ name }, i) => {
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      mark.setAttribute("width", 14);
      mark.setAttribute("height", 8);
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [key, value] of Object.entries({ width: 10, height: 8, rx: 2, fill: kColors[i] })) {
        bar.setAttribute(key, value);
      }
      mark.append(bar);
      legend.append(mark, `${name}  `);
    });
    this.node.append(head, this.canvas, legend);
  }

  add(now, before, seconds) {
    for (const line of this.lines) {
      line.points.push(line.value(now, before, seconds));
      if (line.points.length > kPoints) line.points.shift();
    }
    const value = this.lines[0].points.at(-1);
    this.latest.textContent = value === null ? "–" : `${format(value)} ${this.unit}`;
    this.draw();
  }

  draw() {
    const scale = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const most = Math.max(...this.lines.flatMap(({ points }) => points), 0);
    const top = most === 0 ? 1 : niceCeiling(most);
    const x = (i, length) => width - (length - 1 - i) * (width / (kPoints - 1));
    const y = (value) => height - 2 - (value / top) * (height - 18);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = context.strokeStyle = getComputedStyle(this.node).getPropertyValue("--soft");
    context.globalAlpha = 0.35;
    for (const value of [0, top / 2, top]) {
      context.beginPath();
      context.moveTo(0, y(value));
      context.lineTo(width, y(value));
      context.stroke();
    }
    context.globalAlpha = 1;
    context.fillText(`${format(top)} ${this.unit}`, 2, y(top) - 4);
    this.lines.forEach(({ points }, line) => {
      context.strokeStyle = kColors[line];
      context.lineWidth = 1.5;
      context.beginPath();
      let drawing = false;
      points.forEach((value, i) => {
        if (value !== null) context[drawing ? "lineTo" : "moveTo"](x(i, points.length), y(value));
        drawing = value !== null;
      });
      context.stroke();
    });
  }
}

function niceCeiling(value) {
  const decade = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * decade).find((bound) => bound >= value);
}

function format(value) {
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toPrecision(2);
}

let timer = 0;

/** Asks once a second while the tab is open. */
export function start() {
  const charts = kCharts.map((chart) => new Chart(chart));
  document.getElementById("charts").replaceChildren(...charts.map(({ node }) => node));
  let before = null;
  let last = 0;
  const error = document.getElementById("metrics-error");
  const ask = async () => {
    try {
      const now = parse(await api.metricsPage());
      const time = performance.now();
      for (const chart of charts) chart.add(now, before, (time - last) / 1000);
      [before, last] = [now, time];
      error.hidden = true;
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
    }
    timer = setTimeout(ask, kIntervalMs);
  };
  ask();
}

export function stop() {
  clearTimeout(timer);
}
