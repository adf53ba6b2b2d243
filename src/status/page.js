// Keeps the page up to date. Whatever comes from outside becomes text, and never markup.
"use strict";

const ROWS_MAX = 200;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
// Callbacks by their number: those whose sender holds a key, and those that anybody can send.
const authentic = new Map();
const others = new Map();
let begun = "";
// Data that is older than this is shown as old; a connection may be away for a shorter time, as the server ends each now
// and then.
const SILENCE_MAX = 5000;
const BREAK_MAX = 2000;
const RETRY = 5000;
let source;
// Milliseconds since 1970: the last news, the begin of a break, the last attempt to connect.
let heardAt = Date.now();
let brokenAt;
let triedAt;
let day = "";

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Names may be written from right to left; they turn nothing around that is beside them.
function isolated(text, kind) {
  return element("bdi", text, kind);
}

function say(id, text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
}

function outcomeOf(row) {
  return row.outcome === "accepted" && row.reason === "spool" ? "spooled" : row.outcome;
}

function whereOf(row) {
  if (row.offset !== undefined) return `partition ${row.partition}, offset ${row.offset}`;
  if (row.spool_sequence !== undefined) return `spool, number ${row.spool_sequence}`;
  if (row.source !== undefined) return `from ${row.source}`;
  return "";
}

function textOf(row) {
  const parts = [outcomeOf(row), row.reason, row.kind, row.key, row.stream, row.file, row.member, row.hint, whereOf(row)];
  return parts.filter((part) => part).join(" ").toLowerCase();
}

function lineOf(row) {
  const line = element("tr");
  line.dataset.number = row.number;
  const outcome = outcomeOf(row);
  const cells = Array.from({ length: 6 }, () => line.appendChild(element("td")));
  const time = element("time", row.at.startsWith(day) ? row.at.slice(11, 23) : row.at.slice(0, 23).replace("T", " "));
  time.dateTime = row.at;
  cells[0].append(time);
  cells[1].append(element("strong", outcome.replace("_", " "), `o-${outcome}`));
  if (!["accepted", "spooled", "duplicate"].includes(outcome)) cells[1].append(` ${row.reason}`);
  if (row.member) cells[1].append(` (${row.member})`);
  if (row.hint) cells[1].append(element("span", row.hint, "hint"));
  if (row.kind) cells[2].append(row.kind);
  if (row.key) cells[2].append(element("span", `key ${row.key}`, "more"));
  if (row.stream) cells[3].append(isolated(row.stream));
  if (row.file) cells[3].append(isolated(row.file, "file"));
  cells[4].textContent = duration(row.milliseconds);
  cells[5].textContent = whereOf(row);
  return line;
}

function isWanted(row) {
  const outcome = byId("outcome").value;
  const words = byId("text").value.toLowerCase().split(/\s+/).filter((word) => word);
  const text = textOf(row);
  return (!outcome || outcomeOf(row) === outcome) && words.every((word) => text.includes(word));
}

// The table is brought to what it should be by adding and removing lines: whoever reads one does not lose it.
function showRows() {
  const all = [...authentic.values(), ...others.values()].sort((one, next) => next.number - one.number);
  const wanted = all.filter(isWanted);
  const table = byId("rows");
  const present = new Map([...table.rows].map((line) => [Number(line.dataset.number), line]));
  const kept = new Set(wanted.map((row) => row.number));
  for (const [number, line] of present) if (!kept.has(number)) line.remove();
  let next = table.firstElementChild;
  for (const row of wanted) {
    const line = present.get(row.number);
    if (line) {
      next = line.nextElementSibling;
    } else {
      const made = lineOf(row);
      made.className = "new";
      table.insertBefore(made, next);
    }
  }
  byId("none").hidden = all.length > 0;
  say("count", wanted.length === all.length ? `${all.length} callbacks` : `${wanted.length} of ${all.length} callbacks`);
}

function keep(ring, rows) {
  for (const row of rows) ring.set(row.number, row);
  const numbers = [...ring.keys()].sort((one, next) => one - next);
  for (const number of numbers.slice(0, Math.max(0, numbers.length - ROWS_MAX))) ring.delete(number);
}

function takeCallbacks(event) {
  const of = event.lastEventId.split("-")[0];
  if (of !== begun) {
    // Another process: its numbers begin anew.
    begun = of;
    authentic.clear();
    others.clear();
    byId("rows").replaceChildren();
  }
  const rows = JSON.parse(event.data).callbacks;
  keep(authentic, rows.filter((row) => row.is_authentic));
  keep(others, rows.filter((row) => !row.is_authentic));
  showRows();
}

function duration(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 1 ? 2 : milliseconds < 10 ? 1 : 0)} ms`;
}

function shape(name, attributes, kind) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.setAttribute("class", kind);
  return made;
}

function showRates(hour) {
  const kinds = ["accepted", "spooled", "other", "refused"];
  const total = (minute) => kinds.reduce((sum, kind) => sum + minute[kind], 0);
  const most = Math.max(1, ...hour.map(total));
  const shapes = [];
  hour.forEach((minute, index) => {
    let top = 120;
    for (const kind of kinds) {
      const height = (minute[kind] / most) * 116;
      if (height > 0) shapes.push(shape("rect", { x: index * 10 + 1, y: top - height, width: 8, height }, `bar ${kind}`));
      top -= height;
    }
  });
  byId("rates").replaceChildren(...shapes);
  const sums = kinds.map((kind) => hour.reduce((sum, minute) => sum + minute[kind], 0));
  const words = `highest minute ${most === 1 && sums.every((sum) => !sum) ? 0 : most}; in all ${sums[0]} to Kafka, `
    + `${sums[1]} to the spool, ${sums[2]} other 200s, ${sums[3]} refused`;
  say("rates-scale", words);
  byId("rates").setAttribute("aria-label", `Callbacks a minute: ${words}`);
}

function showLatencies(hour) {
  // Each tenfold takes the same height, from 0.1 ms to 100 s.
  const height = (milliseconds) => 118 - (Math.log10(Math.min(Math.max(milliseconds, 0.1), 1e5)) + 1) * (116 / 6);
  const shapes = [];
  hour.forEach((minute, index) => {
    for (const kind of ["p99", "p50"]) {
      const value = minute[`${kind}_ms`];
      if (value !== undefined) shapes.push(shape("rect", { x: index * 10 + 1, y: height(value) - 2, width: 8, height: 4 }, `dot ${kind}`));
    }
  });
  byId("latencies").replaceChildren(...shapes);
  const last = hour.findLast((minute) => minute.p50_ms !== undefined);
  const words = last
    ? `at ${last.at.slice(11, 16)} UTC half took ${duration(last.p50_ms)} or less, 99 of 100 ${duration(last.p99_ms)} or less`
    : "no event in this hour";
  say("latencies-scale", `${words}; from 0.1 ms at the bottom to 100 s at the top`);
  byId("latencies").setAttribute("aria-label", `Time to a 200: ${words}`);
}

function takePresent(event) {
  const now = JSON.parse(event.data);
  heardAt = Date.now();
  brokenAt = undefined;
  document.body.classList.remove("stale");
  say("following", "Live");
  const today = now.at.slice(0, 10);
  const isAnother = day && day !== today;
  day = today;
  if (isAnother) {
    // Times of the day before get their date.
    byId("rows").replaceChildren();
    showRows();
  }
  document.title = `${now.title} · recording-bridge`;
  byId("state").className = now.state_class;
  say("state-name", now.state);
  say("state-words", now.state_words);
  say("readiness", now.readiness);
  byId("readiness").className = now.is_ready ? "ready" : "unready";
  showRates(now.hour);
  showLatencies(now.hour);
  const facts = now.facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  const shown = [...byId("facts").children].map((child) => child.textContent).join("\n");
  if (shown !== facts.map((fact) => fact.textContent).join("\n")) byId("facts").replaceChildren(...facts);
  const keys = now.keys.map((key) => {
    const line = element("tr");
    const name = element("th", key.name);
    name.scope = "row";
    const time = key.verified_at ? `${key.verified_at.slice(0, 19).replace("T", " ")} UTC` : "never since the start";
    line.append(name, element("td", time));
    return line;
  });
  byId("keys").replaceChildren(...keys);
}

function follow() {
  triedAt = Date.now();
  source = new EventSource("/status/events");
  source.addEventListener("present", takePresent);
  source.addEventListener("callbacks", takeCallbacks);
  source.addEventListener("error", () => { brokenAt ??= Date.now(); });
}

// A connection may break without a word, and a machine may have slept: only news say that what is shown is true.
function watch() {
  const now = Date.now();
  const isSilent = now - heardAt > SILENCE_MAX;
  if (!isSilent && !(now - brokenAt > BREAK_MAX)) return;
  document.body.classList.add("stale");
  document.title = "not connected · recording-bridge";
  const since = new Date(heardAt).toISOString().slice(0, 19).replace("T", " ");
  say("following", `Not connected: what is shown is as of ${since} UTC by this machine's clock; trying again`);
  // After an answer other than 200 a browser does not try again by itself.
  if ((isSilent || source.readyState === EventSource.CLOSED) && now - triedAt > RETRY) {
    source.close();
    follow();
  }
}

byId("filter").hidden = false;
byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("outcome").addEventListener("change", showRows);
byId("text").addEventListener("input", showRows);
// What the server has written is replaced as soon as the first events come.
follow();
setInterval(watch, 500);
