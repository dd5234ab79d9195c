"use strict";
// Everything that comes from the job is put on the page as text, never as markup.

const SHOWN = 300; // batches of a query, as many as the job keeps
const WAITED = 6; // batches over which it is seen whether more files or records wait
const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const cards = new Map(); // by the query's name

function make(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function short(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  for (const [unit, least] of [["G", 1e9], ["M", 1e6], ["k", 1e4]])
    if (size >= least) return `${(value / (unit === "k" ? 1e3 : least)).toFixed(1)} ${unit}`;
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(size < 1 ? 2 : 1);
}

function lasting(seconds) {
  if (!seconds) return [seconds == null ? "–" : "0", ""];
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const [unit, size] = units.find(([, least]) => Math.abs(seconds) >= 2 * least) || units[3];
  if (unit === "s" && Math.abs(seconds) < 1) return [short(Math.round(seconds * 1000)), "ms"];
  return [short(seconds / size), unit];
}

function memory(bytes) {
  const [unit, size] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, least]) => bytes >= least) || ["B", 1];
  return `${size === 1 ? bytes : (bytes / size).toFixed(1)} ${unit}`;
}

// --- charts

// What a chart shows: its title, what its numbers are, whether a few high values may be cut, and its series.
// A series is a name, a colour, and its value of a batch (null where there is none) with the one before.
const PARTS = [["work", "one"], ["planning", "three"], ["log writes", "four"], ["looking", "five"]]; // for new input
const CHARTS = {
  rate: {
    title: "Rows a second", cut: true,
    series: [
      ["arriving", "one", (each, before) => before && each.at > before.at ? arrived(each, before) / (each.at - before.at) : null],
      ["written", "two", (each, before) => before && each.at > before.at && each.rows_out != null ? each.rows_out / (each.at - before.at) : null],
      ["read, while a batch runs", "four", (each) => each.rows && each.seconds ? each.rows / each.seconds : null],
    ],
  },
  parts: {
    title: "Time of a batch", values: (seconds) => lasting(seconds).join(" "), cut: true, stacked: true,
    // Each is drawn over the sum of all from it on, so that the first lies lowest.
    series: PARTS.map(([name, tint], place) => [name, tint, (each) => PARTS.slice(0, place + 1).reduce((sum, [part]) => sum + each[part.replace(" ", "_")], 0)]).reverse(),
  },
  state: { title: "Rows in state", series: [["rows", "three", (each) => each.state_rows]], filled: true },
  lag: { title: "Watermark behind the clock", values: (seconds) => lasting(seconds).join(" "), series: [["watermark", "four", (each) => each.lag]], filled: true },
  waiting: { title: "Waiting in the sources", series: [["files or records", "five", (each) => each.waiting]], filled: true },
};

// A batch as the job sends it, with its times in seconds.
function read(each) {
  const at = Date.parse(each.at) / 1e3;
  return { ...each, at, lag: each.watermark && at - Date.parse(each.watermark) / 1e3, waiting: each.files_waiting ?? each.records_behind };
}

// Rows that have arrived from one batch to the next: those read, and those by which there wait more than before.
function arrived(each, before) {
  if (each.waiting == null || before.waiting == null) return each.rows;
  const files = each.files == null || before.files == null ? null : each.files - before.files;
  const rowsEach = files == null ? 1 : files > 0 ? each.rows / files : 0;
  return Math.max(each.rows + rowsEach * (each.waiting - before.waiting), 0);
}

function top97(values) {
  const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
  return sorted.length > 8 ? sorted[Math.floor(sorted.length * 0.97)] * 1.1 : sorted.at(-1);
}

function draw(figure, shown, series) {
  const names = shown.stacked ? [...series].reverse() : series;
  figure.append(make("figcaption", {}, make("b", { textContent: shown.title }), make("div", {}, ...names.map(([name, tint]) => make("span", { textContent: name, className: tint })))));
  const axis = { stroke: () => colour("soft"), grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const stepped = uPlot.paths.stepped({ align: 1 });
  const height = 132;
  const chart = new uPlot({
    width: figure.clientWidth || 300, height, padding: [8, 26, 0, 0],
    legend: { show: false }, cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { time: true },
      y: { range: (u, _least, most) => [0, ((shown.cut ? Math.max(...u.data.slice(1).map((one) => top97(one) || 0)) : most) || 1) * 1.06] },
    },
    axes: [
      { ...axis, size: 24, space: 64, values: (_, times) => times.map((each) => new Date(each * 1e3).toLocaleTimeString("en-GB")) },
      { ...axis, size: 54, space: 28, values: (_, all) => all.map(shown.values || short) },
    ],
    series: [{}, ...series.map(([, tint]) => ({
      stroke: () => colour(tint), width: shown.stacked ? 0 : 1.6, points: { show: false }, spanGaps: true,
      paths: shown.stacked ? stepped : undefined,
      fill: shown.stacked ? () => colour(tint) : shown.filled ? () => `${colour(tint)}26` : undefined,
    }))],
  }, [[], ...series.map(() => [])], figure);
  new ResizeObserver(() => chart.setSize({ width: figure.clientWidth, height })).observe(figure);
  return chart;
}

function fill(card, name) {
  const shown = CHARTS[name], all = card.batches;
  const columns = shown.series.map(([, , value]) => all.map((each, place) => value(each, all[place - 1]) ?? null));
  const there = shown.series.map((_, place) => columns[place].some((value) => value != null));
  const key = there.join();
  if (card.charts[name]?.key !== key) { // a series has come, or there is none any more
    card.charts[name]?.figure.replaceChildren();
    const figure = card.charts[name]?.figure || card.box.appendChild(make("figure", { className: name }));
    figure.hidden = !there.includes(true);
    card.charts[name] = { figure, key, chart: figure.hidden ? null : draw(figure, shown, shown.series.filter((_, place) => there[place])) };
  }
  const last = all.at(-1), { chart } = card.charts[name];
  if (!chart) return;
  // The last batch lasts, too: to where it ended.
  const ends = shown.stacked ? [last.at + last.seconds] : [];
  chart.setData([[...all.map((each) => each.at), ...ends], ...columns.filter((_, place) => there[place]).map((one) => [...one, ...ends.map(() => one.at(-1))])]);
}

// --- a query

function newCard(name) {
  const card = { name, batches: [], charts: {}, rows: new Set() };
  card.about = make("small");
  card.verdicts = make("ul", { className: "verdicts" });
  card.numbers = make("dl");
  card.box = make("div", { className: "charts" });
  card.result = make("div", { className: "result", hidden: true });
  card.article = make("article", {}, make("div", { className: "top" }, make("h2", { textContent: name }), card.about), card.verdicts, card.numbers, card.box, card.result);
  cards.set(name, card);
  return card;
}

function update(query, ended) {
  const card = cards.get(query.name) || newCard(query.name);
  card.batches = card.batches.concat(query.batches.map(read)).slice(-SHOWN);
  const last = card.batches.at(-1);
  card.about.textContent = last ? `batch ${last.batch.toLocaleString("en")}` : "waits for its first batch";
  const said = query.verdicts.length ? query.verdicts : last && !ended ? [calm(card.batches)] : [];
  card.verdicts.replaceChildren(...said.map(([level, text]) => make("li", { className: level, textContent: text })));
  if (query.result) table(card, query.result);
  if (!last) {
    card.numbers.replaceChildren();
    card.box.hidden = true;
    return card;
  }
  card.box.hidden = false;
  numbers(card, query.totals, last);
  return card;
}

// What a card says that has no verdict: verdicts need ten batches with rows.
function calm(batches) {
  const last = batches.at(-1), known = batches.slice(-WAITED).filter((each) => each.waiting != null);
  if (!last.waiting || known.length < 2) return ["ok", "nothing is wrong"];
  const unit = last.files_waiting == null ? "records" : last.waiting === 1 ? "file" : "files";
  const wait = `${last.waiting.toLocaleString("en")} ${unit} ${last.waiting === 1 && unit === "file" ? "waits" : "wait"} to be read`;
  const more = last.waiting - known[0].waiting, ago = known.length - 1;
  if (more > 0) return ["warn", `${wait}, ${more.toLocaleString("en")} more than ${ago === 1 ? "a batch" : `${ago} batches`} ago`];
  return ["ok", `nothing is wrong; ${wait}${more < 0 ? ", and they become fewer" : ""}`];
}

function numbers(card, totals, last) {
  const before = card.batches.at(-2);
  const apart = before && last.at > before.at ? last.at - before.at : null;
  const all = [
    ["rows read", short(apart && last.rows / apart), "a second"],
    ["new rows arriving", short(apart && arrived(last, before) / apart), "a second"],
    ["time of a batch", ...lasting(last.seconds)],
    ["rows read so far", short(totals.rows), ""],
  ];
  if (last.state_rows != null) all.push(["rows in state", short(last.state_rows), `in ${memory(last.state_bytes)}`]);
  if (last.lag != null) all.push(["watermark", ...(last.lag < 0 ? [lasting(-last.lag)[0], `${lasting(-last.lag)[1]} ahead`] : [lasting(last.lag)[0], `${lasting(last.lag)[1]} behind`])]);
  if (last.waiting != null) all.push([last.files_waiting == null ? "records waiting" : "files waiting", short(last.waiting), ""]);
  if (totals.late != null) all.push(["late, dropped", short(totals.late), ""]);
  if (totals.bad != null) all.push(["bad rows", short(totals.bad), ""]);
  card.numbers.replaceChildren(...all.map(([name, value, unit]) =>
    make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }, make("i", { textContent: unit })))));
}

function table(card, result) {
  const count = result.more ? `the first ${result.rows.length} rows` : result.rows.length === 1 ? "1 row" : `${result.rows.length} rows`;
  const head = make("h3", { textContent: "Result " }, make("small", { textContent: `${result.place}: ${result.problem || count}` }));
  const side = (place) => (result.numeric[place] ? "number" : "");
  const keys = new Set(result.rows.map((row) => JSON.stringify(row)));
  const rows = sorted(card, result).map((row) => make("tr", { className: card.rows.size && !card.rows.has(JSON.stringify(row)) ? "new" : "" },
    ...row.map((value, place) => make("td", { className: value == null ? `null ${side(place)}` : side(place), title: value ?? "" }, make("span", { textContent: value ?? "NULL" })))));
  card.rows = keys;
  const names = make("tr", {}, ...result.columns.map((name, place) => heading(card, result, name, place, side(place))));
  const scroll = make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, names), make("tbody", {}, ...rows)));
  const bars = make("div", { className: "bars" }, ...result.bars.flatMap(([label, value, share]) => {
    const bar = make("b");
    bar.style.width = `${100 * share}%`;
    return [make("span", { textContent: label, title: label }), bar, make("span", { className: "number", textContent: value.replace(/^-?\d+/, (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",")) })];
  }));
  const top = card.result.querySelector(".scroll")?.scrollTop || 0;
  card.result.hidden = false;
  card.result.replaceChildren(head, ...(result.problem ? [] : [make("div", { className: "both" }, scroll, bars)]));
  if (!result.problem) scroll.scrollTop = top;
}

// What a column is sorted by, click after click: numbers from the largest, texts from A, then the other way
// round, and then as the job has them.
const ORDERS = { descending: "ascending", ascending: "descending" };
const byText = new Intl.Collator("en", { numeric: true }).compare;

function heading(card, result, name, place, side) {
  const first = result.numeric[place] ? "descending" : "ascending";
  const now = card.sort?.name === name ? card.sort.order : "none";
  const button = make("button", { type: "button", textContent: name, title: `sort by ${name}` });
  button.addEventListener("click", () => {
    const next = now === "none" ? first : now === first ? ORDERS[first] : null;
    card.sort = next && { name, order: next };
    table(card, result);
    card.result.querySelectorAll("th button")[place].focus();
  });
  const head = make("th", { className: side }, button);
  head.setAttribute("aria-sort", now);
  return head;
}

function sorted(card, result) {
  const place = result.columns.indexOf(card.sort?.name);
  if (place < 0) return result.rows;
  const sign = card.sort.order === "ascending" ? 1 : -1;
  const compare = result.numeric[place] ? (a, b) => Number(a) - Number(b) : byText;
  const [known, empty] = [result.rows.filter((row) => row[place] != null), result.rows.filter((row) => row[place] == null)];
  return [...known.sort((a, b) => sign * compare(a[place], b[place])), ...empty];
}

// --- the page

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").className = kind;
  document.title = kind === "live" ? "sparkstream" : `${text} – sparkstream`;
}

function show(picture) {
  byId("problem").hidden = !picture.error;
  byId("problem").textContent = picture.error ? `The job goes on, but its state cannot be shown: ${picture.error}` : "";
  if (picture.ended) state(picture.ended, picture.ended.includes("error") ? "off" : "ended");
  else state("live", "live");
  byId("stop").hidden = Boolean(picture.ended) || !token();
  if (!picture.queries) return;
  if (picture.first) for (const card of cards.values()) card.batches = []; // of before this connection
  byId("about").textContent = picture.queries.length === 1 ? "1 query" : `${picture.queries.length} queries`;
  byId("spark").hidden = !picture.spark?.startsWith("http");
  if (!byId("spark").hidden) byId("spark").href = picture.spark;
  const main = byId("queries");
  picture.queries.forEach((query, place) => { // the worst first
    const card = update(query, picture.ended);
    if (main.children[place] !== card.article) main.insertBefore(card.article, main.children[place] || null);
    if (card.batches.length && (query.batches.length || picture.first)) Object.keys(CHARTS).forEach((name) => fill(card, name));
  });
  for (const [name, card] of cards)
    if (!picture.queries.some((query) => query.name === name)) {
      card.article.remove();
      cards.delete(name);
    }
}

const token = () => new URLSearchParams(location.hash.slice(1)).get("token");

let asked = 0; // a stop takes two clicks
byId("stop").addEventListener("click", async () => {
  const button = byId("stop");
  if (!asked) {
    button.textContent = "Click again to stop";
    asked = setTimeout(() => { asked = 0; button.textContent = "Stop the run"; }, 4000);
    return;
  }
  clearTimeout(asked);
  asked = 0;
  const answer = await fetch("stop", { method: "POST", headers: { Authorization: `Bearer ${token()}` } }).catch(() => null);
  button.disabled = Boolean(answer?.ok);
  button.textContent = answer?.ok ? "The run ends" : answer?.status === 401 ? "Not stopped: open the address that this run printed" : "Not stopped: no connection";
});

let heard = Date.now();
const away = "no connection: the job has been killed, or cannot be reached";
const locked = "not shown: open the address that this run printed, with its #token=…";
let open = true; // until the run has ended, or this page may not see it

// An EventSource cannot send the token in a header.
async function listen() {
  const answer = await fetch("events", { headers: { Authorization: `Bearer ${token()}` } });
  if (answer.status === 401) {
    open = false;
    state(locked, "off");
    byId("stop").hidden = true;
    return;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
    const told = (rest + part.value).split("\n\n");
    rest = told.pop();
    for (const text of told) {
      heard = Date.now();
      const picture = JSON.parse(text.slice("data: ".length));
      show(picture);
      if (picture.ended) open = false;
    }
  }
}

async function follow() {
  while (open) {
    await listen().catch(() => null); // the job has gone, or is being started again
    if (!open) return;
    state(away, "off");
    await new Promise((done) => setTimeout(done, 2000));
  }
}

follow();
setInterval(() => { if (open && Date.now() - heard > 15000) state(away, "off"); }, 1000);
addEventListener("hashchange", () => location.reload()); // the address of another run, on the same port

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const card of cards.values()) for (const { chart } of Object.values(card.charts)) chart?.redraw(false, true);
});
