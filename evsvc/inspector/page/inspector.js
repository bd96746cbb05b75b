// Draws what the server tells: a picture of the loop at a time, over server-sent events.
"use strict";

const HISTORY = 120;  // pictures in a chart
const byId = id => document.getElementById(id);

const seconds = value => value === null || value === undefined ? "–"
  : value < 0.001 ? `${(value * 1e6).toFixed(0)} µs`
  : value < 1 ? `${(value * 1e3).toFixed(value < 0.1 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;
const count = value => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
const bytes = value => {
  if (value === null || value === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${value.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    value /= 1024;
  }
};

const SVG = "http://www.w3.org/2000/svg";
function make(name, attributes = {}, ...children) {
  const isShape = ["svg", "path", "rect"].includes(name);
  const element = isShape ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

class Chart {
  constructor(title, show, top = 0) {
    this.show = show;
    this.top = top;
    this.values = [];
    this.now = make("b");
    this.line = make("path", {class: "line"});
    this.area = make("path", {class: "area"});
    const svg = make("svg", {class: "chart", viewBox: `0 0 ${HISTORY - 1} 100`, preserveAspectRatio: "none",
      role: "img", "aria-label": title}, this.area, this.line);
    byId("charts").append(make("figure", {}, make("figcaption", {}, title, this.now), svg));
  }
  add(value) {
    this.values.push(value);
    if (this.values.length > HISTORY) this.values.shift();
    const top = Math.max(this.top, ...this.values) || 1;
    const first = HISTORY - this.values.length;
    const points = this.values.map((each, index) => `${first + index},${(98 - 96 * each / top).toFixed(2)}`);
    this.line.setAttribute("d", `M${points.join("L")}`);
    this.area.setAttribute("d", `M${first},100L${points.join("L")}L${HISTORY - 1},100Z`);
    this.now.textContent = this.show(value);
  }
}

function fill(table, columns, rows, isBad = () => false) {
  table.replaceChildren();
  if (!rows.length) {
    table.append(make("caption", {}, make("p", {class: "none"}, "none")));
    return;
  }
  const kind = column => ({class: column.name ? "name" : column.text ? "" : "number"});
  table.append(make("thead", {}, make("tr", {}, ...columns.map(each => make("th", kind(each), each.title)))));
  table.append(make("tbody", {}, ...rows.map(row => make("tr", isBad(row) ? {class: "bad"} : {},
    ...columns.map(each => make("td", kind(each), each.show(row)))))));
}

function histogram(counts, bounds) {
  const most = Math.max(...counts, 1);
  const bars = counts.map((each, index) => {
    const bar = make("rect", {x: index * 10, width: 8, y: 20 - 20 * each / most, height: 20 * each / most});
    const upTo = index < bounds.length ? `up to ${seconds(bounds[index])}` : "longer";
    bar.append(document.createElementNS(SVG, "title"));
    bar.firstChild.textContent = `${upTo}: ${each}`;
    return bar;
  });
  return make("svg", {class: "histogram", viewBox: `0 0 ${counts.length * 10} 20`, preserveAspectRatio: "none"}, ...bars);
}

const CALLBACKS = [
  {title: "callback", name: true, show: row => row.name},
  {title: "calls", show: row => count(row.calls)},
  {title: "mean", show: row => seconds(row.total_s / row.calls)},
  {title: "longest", show: row => seconds(row.longest_s)},
  {title: "in all", show: row => seconds(row.total_s)},
];
const SOCKETS = [
  {title: "fd", show: row => row.fd},
  {title: "kind", text: true, show: row => row.kind},
  {title: "local", name: true, show: row => row.local},
  {title: "peer", name: true, show: row => row.peer},
  {title: "received", show: row => bytes(row.received_bytes)},
  {title: "per second", show: row => bytes(row.received_per_s)},
  {title: "sent", show: row => bytes(row.sent_bytes)},
  {title: "per second", show: row => bytes(row.sent_per_s)},
];
const TIMERS = [
  {title: "due in", show: row => seconds(Math.max(row.due_s, 0))},
  {title: "callback", name: true, show: row => row.name},
];
const HTTP = [
  {title: "server", name: true, show: row => row.name},
  {title: "connections", show: row => count(row.connections)},
  {title: "in flight", show: row => count(row.in_flight)},
  {title: "requests", show: row => count(row.requests)},
  {title: "errors (5xx)", show: row => count(row.errors)},
  {title: "unsent", show: row => bytes(row.held_unsent_bytes)},
];
const NAMESERVERS = [
  {title: "nameserver", name: true, show: row => row.name},
  {title: "is", text: true, show: row => row.up ? "up" : "down"},
  {title: "silences", show: row => count(row.timeouts)},
];
const ANSWERS = [
  {title: "cached", name: true, show: row => row.name},
  {title: "type", show: row => row.type},
  {title: "TTL", show: row => seconds(row.ttl_s)},
];

const charts = {
  callbacks_per_s: new Chart("callbacks per second", count),
  passes_per_s: new Chart("passes per second", count),
  load: new Chart("load", value => `${(100 * value).toFixed(0)} %`, 1),
  longest_s: new Chart("longest pass", seconds),
};

function draw(state) {
  byId("method").textContent = state.loop.method;
  const pictures = Number(document.documentElement.dataset.pictures || 0);
  if (pictures)  // the first is of no time at all
    for (const [name, chart] of Object.entries(charts)) chart.add(state.loop[name]);
  byId("events").replaceChildren(...Object.entries(state.events).flatMap(([name, value]) => [
    make("dt", {}, name.replace("_", " ")),
    make("dd", {}, Array.isArray(value) ? value.map(count).join(" / ") : count(value)),
  ]));
  fill(byId("http"), HTTP, state.http);
  fill(byId("rpc"), [
    {title: "method", name: true, show: row => row.name},
    {title: "calls", show: row => count(row.calls)},
    {title: "failed", show: row => count(row.failed)},
    {title: "p50 up to", show: row => seconds(row.p50_s)},
    {title: "p99 up to", show: row => seconds(row.p99_s)},
    {title: "latency", show: row => histogram(row.counts, state.latency_bounds_s)},
  ], state.rpc);
  fill(byId("callbacks"), CALLBACKS, state.callbacks);
  byId("sockets-in-all").textContent = state.sockets.in_all > state.sockets.rows.length
    ? `${state.sockets.rows.length} of ${state.sockets.in_all}` : "";
  fill(byId("sockets"), SOCKETS, state.sockets.rows);
  fill(byId("timers"), TIMERS, state.timers);
  byId("dns").replaceChildren(...state.dns.flatMap(each => {
    const servers = make("table"), answers = make("table");
    fill(servers, NAMESERVERS, each.nameservers, row => !row.up);
    fill(answers, ANSWERS, each.answers);
    return [make("h3", {}, `${each.name}, ${count(each.cached)} answers cached`), servers, answers];
  }));
  if (!state.dns.length) byId("dns").append(make("p", {class: "none"}, "none"));
  document.documentElement.dataset.pictures = pictures + 1;
}

const status = byId("status");
const source = new EventSource("events");
source.onopen = () => { status.textContent = "live"; status.className = "live"; };
source.onerror = () => { status.textContent = "connection lost"; status.className = "lost"; };
source.onmessage = event => draw(JSON.parse(event.data));
source.addEventListener("stop", () => { status.textContent = "the server stops"; status.className = "lost"; });
