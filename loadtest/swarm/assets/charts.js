"use strict";
// The page of charts. Words from outside (nodes, errors, targets) only ever become text nodes.

const POLL_MS = 2000, REST_MS = 5000, ASK_S = 20, POINTS_MAX = 900, HEIGHT = 190;
const byId = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

let rows = [], columns = [], run = null, generation = 0, selection = ["all", ""], asked = "", plots = [], drawn = "", polling = null;

const index = (name) => columns.indexOf(name);
const width = (row) => row[index("to_s")] - row[index("from_s")];
const column = (name) => rows.map((row) => row[index(name)]);
const perSecond = (name) => rows.map((row) => row[index(name)] / width(row));
// A quantile among failed turns comes as -1: a gap in the line, a word in the legend.
const quantile = (name) => column(name).map((value) => (value === null || value < 0 ? null : value));
const failing = (name) => column(name).map((value) => value === -1);

const CHARTS = [
  { title: "Turns per second", lines: [["offered", () => perSecond("offered")], ["completed", () => perSecond("completed")]] },
  { title: "In flight", lines: [["in flight", () => column("in_flight")], ["no byte of the answer yet", () => column("waiting")]] },
  { title: "Age of the oldest in flight, s", lines: [["oldest", () => column("oldest_s")]] },
  { title: "TTFT, ms", quantiles: "ttft" },
  { title: "TPOT, ms", quantiles: "tpot" },
  { title: "E2E, ms", quantiles: "e2e" },
  { title: "Turns not ok per second", outcomes: true },
];
const COLOURS = ["#2f6fde", "#d9730d", "#8a4fd0", "#128a7d", "#c2185b", "#7a7f1a", "#607d8b", "#a0522d"];

function outcomeNames() {
  const found = new Set();
  for (const row of rows) for (const name of Object.keys(row[index("failures")])) found.add(name);
  return [...found].sort();
}

function linesOf(chart) {
  if (chart.quantiles) {
    return ["p50", "p95", "p99"].map((level) => {
      const name = `${chart.quantiles}_ms_${level}`;
      return { label: level, values: quantile(name), failed: failing(name) };
    });
  }
  if (chart.outcomes) {
    return outcomeNames().map((name) => ({
      label: name,
      values: rows.map((row) => (row[index("failures")][name] || 0) / width(row)),
    }));
  }
  return chart.lines.map(([label, values]) => ({ label, values: values() }));
}

function clock(seconds) {
  const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function options(line, box) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--dim").trim(), grid = style.getPropertyValue("--grid").trim();
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
  return {
    width: box.clientWidth - 16, height: HEIGHT,
    scales: { x: { time: false } },
    axes: [{ ...axis, values: (_, marks) => marks.map(clock) }, { ...axis, size: 56, values: (_, marks) => marks.map(number) }],
    series: [
      { label: "at", value: (_, at) => (at === null ? "–" : clock(at)) },
      ...line.map((each, i) => ({
        label: each.label, stroke: COLOURS[i % COLOURS.length], width: 1.5, points: { show: rows.length < 40, size: 4 },
        value: (plot, value, _, at) => (at !== null && plot.failed[i] && plot.failed[i][at] ? "failed" : number(value)),
        spanGaps: !each.failed,
      })),
    ],
  };
}

function draw() {
  const all = CHARTS.map(linesOf), at = column("to_s");
  // New plots only when there are other lines than before: a redraw would lose the cursor.
  const shape = JSON.stringify([run, selection, dark.matches, all.map((lines) => lines.map((line) => line.label)), rows.length < 40]);
  if (shape !== drawn) {
    for (const plot of plots) plot.destroy();
    byId("charts").replaceChildren();
    // All boxes first: a plot takes the width that its box has then.
    const boxes = CHARTS.map((chart, i) => {
      const box = document.createElement("div"), title = document.createElement("h2");
      box.className = "chart";
      title.textContent = all[i].length ? chart.title : `${chart.title}: none so far`;
      box.append(title);
      return box;
    });
    byId("charts").append(...boxes);
    plots = boxes.map((box, i) => {
      const plot = new uPlot(options(all[i], box), [at, ...all[i].map((line) => line.values)], box);
      plot.box = box;
      return plot;
    });
    drawn = shape;
    for (const [i, plot] of plots.entries()) plot.failed = all[i].map((line) => line.failed);
  } else {
    for (const [i, plot] of plots.entries()) {
      plot.failed = all[i].map((line) => line.failed);
      plot.setData([at, ...all[i].map((line) => line.values)]);
    }
  }
}

function fill(id, lines) {
  byId(id).tBodies[0].replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const place = document.createElement("td");
      if (cell instanceof Node) place.append(cell); else place.textContent = typeof cell === "number" ? number(cell) : cell ?? "–";
      row.append(place);
    }
    return row;
  }));
}

function choose(id, entries, chosen) {
  const list = byId(id), before = JSON.stringify([...list.options].map((option) => [option.value, option.text]));
  if (before !== JSON.stringify(entries)) {
    list.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  }
  list.value = chosen;
}

function percent(share) { return share === null ? null : 100 * share; }

function downloads(told) {
  fill("downloads", told.runs.map((each) => {
    const links = document.createElement("span");
    const base = `runs/${encodeURIComponent(each.run)}/`;
    if (!each.over) links.textContent = "still on";
    else for (const [file, text] of [["folder.tar.gz", "run folder"], ["report.html", "report"], ["rows.parquet", "rows, Parquet"], ["rows.csv", "rows, CSV"]]) {
      const link = document.createElement("a");
      link.href = base + file;
      link.textContent = text;
      links.append(link);
    }
    return [each.run, links];
  }));
}

function show(told) {
  document.title = byId("title").textContent = told.run === null ? "No run yet" : `Run ${told.run}`;
  choose("run", [["", "the newest"], ...told.runs.map((each) => [each.run, each.run])], asked);
  downloads(told);
  if (told.run === null || told.when === undefined) return;
  choose("selection", told.selections.map(([target, session]) => [
    JSON.stringify([target, session]), session ? `${target}, session ${session}` : target === "all" ? "all targets" : target,
  ]), JSON.stringify(selection));
  const lost = told.workers[2] ? `, ${told.workers[2]} lost` : "";
  byId("now").textContent = `${told.when}; offered ${told.offered.toLocaleString("en")}, completed ${told.completed.toLocaleString("en")}, ` +
    `in flight ${told.in_flight.toLocaleString("en")} (oldest ${told.oldest_s} s); ${told.workers[0]} of ${told.workers[1]} workers${lost}`;
  byId("fitness").textContent = told.fit ? "Fit so far." : `UNFIT: ${told.reasons.join("; ")}`;
  byId("fitness").className = told.fit ? "good" : "bad";
  fill("outcomes", Object.entries(told.outcomes).sort((a, b) => b[1] - a[1]).map(([name, turns]) => [name, turns.toLocaleString("en")]));
  fill("pipeline", (told.pipeline || []).map(([stage, reached, there, oldest]) => [stage, reached, there, oldest]));
  byId("nodes-of").textContent = told.nodes === null
    ? "No observer: --no-observe, or it has not written yet."
    : `${told.nodes_of}; as of ${told.observed_age_s} s ago.`;
  // The order of a node's fields is that of ObservedNode in loadtest/observed.py.
  fill("nodes", (told.nodes || []).map((node) => [
    node[0], node[1], node[2], node[3], node[4], node[7], percent(node[8]), percent(node[9]),
    node[16] === null ? null : node[16] + told.observed_age_s,
  ]));
}

async function poll() {
  clearTimeout(polling);
  const mine = ++generation;
  let rest = REST_MS;
  try {
    const since = rows.length && rows.length <= POINTS_MAX ? rows[rows.length - 1][0] : 0;
    const query = new URLSearchParams({ run: asked, target: selection[0], session: selection[1], since });
    const answer = await fetch(`live?${query}`, { signal: AbortSignal.timeout(ASK_S * 1000), cache: "no-store" });
    if (answer.status === 401) { location.assign("../login"); return; }
    if (!answer.ok) throw new Error(`it says ${answer.status}`);
    const told = await answer.json();
    if (mine !== generation) return; // another run or selection was asked for meanwhile
    if (told.run !== run) {
      run = told.run;
      rows = [];
      selection = ["all", ""];
      polling = setTimeout(poll, 0);
      return;
    }
    if (since === 0) rows = [];
    columns = told.columns || columns;
    for (const row of told.points || []) {
      // The names that go with these numbers are those of this answer.
      row[index("failures")] = Object.fromEntries(row[index("failures")].map((turns, i) => [told.failures[i], turns]));
      rows.push(row);
    }
    show(told);
    if (told.run !== null) draw();
    if (told.over === false) rest = POLL_MS;
  } catch (error) {
    if (mine !== generation) return;
    byId("now").textContent = `The master does not answer (${error.message}); what is drawn is the last it said.`;
  }
  polling = setTimeout(poll, rest);
}

function restart(change) { change(); rows = []; poll(); }

byId("run").addEventListener("change", (event) => restart(() => { asked = event.target.value; }));
byId("selection").addEventListener("change", (event) => restart(() => { selection = JSON.parse(event.target.value); }));
dark.addEventListener("change", draw);
let resizing = null;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => plots.forEach((plot) => plot.setSize({ width: plot.box.clientWidth - 16, height: HEIGHT })), 100);
});
poll();
