"use strict";
// Draws the picture of a job (distckpt/observe/picture.py) and asks for the next one every second. Whatever comes from
// the job is put into the page as text, never as markup.

const EVERY_MS = 1000, SAVES_DRAWN = 60, SVG = "http://www.w3.org/2000/svg";
const PHASES = [["gather", "waiting for all workers"], ["write", "writing"], ["wait", "written, waiting for the others"],
  ["commit", "the chief commits"], ["stall", "training held"], ["failed", "failed, or done without"]];
const at = (id) => document.getElementById(id);
let token = "", chosen = null, drawn = "";

// ---------------------------------------------------------------------------------------------------------- elements

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null && child !== ""));
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const put = (id, ...children) => at(id).replaceChildren(...children);

function svg(width, height, label, ...children) {
  return s("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label}, ...children);
}
function box(x, y, width, height, kind, told, radius = 2) {
  const drawn = s("rect", {x, y, width: Math.max(width, 0), height, class: kind, rx: radius});
  if (told) drawn.append(s("title", {}, told));
  return drawn;
}
function text(x, y, words, anchor = "start") {
  return s("text", {x, y, "text-anchor": anchor}, words);
}
function table(heads, rows) {
  const kind = (index) => (heads[index].startsWith("#") ? {class: "number"} : {});
  return h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head, index) => h("th", kind(index), head.replace("#", ""))))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, index) =>
      cell instanceof HTMLTableCellElement ? cell : h("td", kind(index), cell))))));
}

// ------------------------------------------------------------------------------------------------------------- words

function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
  let value = bytes, unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return unit ? `${value.toFixed(1)} ${units[unit]}` : `${value} B`;
}
function seconds(value) {
  if (value === 0) return "0";
  if (value < 0.0995) return `${(value * 1000).toPrecision(2)} ms`;
  return value < 10 ? `${value.toFixed(2)} s` : age(value);
}
function age(value) {
  if (value < 60) return `${Math.max(0, value).toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}
const clock = (epoch) => new Date(epoch * 1000).toLocaleTimeString();
const known = (value) => value !== null && value !== undefined;
const percent = (part) => Math.min(100, 100 * part.written_bytes / part.share_bytes);

// ------------------------------------------------------------------------------------------------------------- parts

function drawHead(picture) {
  const live = picture.source === "live";
  document.title = `${picture.job || "distckpt"}${live ? "" : " (not running)"}`;
  at("job").textContent = picture.job || "distckpt";
  at("state").textContent = live ? "live" : "from the journal";
  at("state").className = `pill ${live ? "good" : "warn"}`;
  at("directory").textContent = (picture.generation ? `generation ${picture.generation} in ` : "") + picture.directory;
  at("note").hidden = !picture.note;
  at("note").textContent = picture.note;
}

function card(title, value, below, kind = "") {
  return h("div", {class: "card"}, h("span", {class: "quiet"}, title), h("b", {class: kind}, value),
    h("span", {class: "quiet", title: below}, below));
}

function drawCards(picture, inFlight) {
  const newest = picture.checkpoints.at(-1), cards = [];
  cards.push(newest ? card("Last commit", `${age(picture.at - newest.committed_at)} ago`, `${newest.name}, ${size(newest.bytes)}`)
    : card("Last commit", "none yet", "nothing is committed"));
  if (picture.source === "live") {
    const there = picture.workers.filter((worker) => worker.presence === "present").length;
    const missing = there < picture.world_size;
    cards.push(card("Workers", `${there} of ${picture.world_size}`, missing ? "the training needs all of them" : "all are there",
      missing ? "bad" : ""));
    const before = picture.saves.filter((save) => known(save.ended_at)).at(-1);
    cards.push(inFlight ? card("Save in flight", inFlight.phase, `${inFlight.name}, for ${age(picture.at - inFlight.opened_at)}`)
      : card("Save in flight", "none", before ? `the last took ${seconds(before.ended_at - before.opened_at)}` : ""));
    const stalls = picture.saves.flatMap((save) => save.parts.map((part) => part.stall_s)).filter(known).sort((a, b) => a - b);
    cards.push(stalls.length ? card("Training held by a save", seconds(stalls[stalls.length >> 1]), `median; longest ${seconds(stalls.at(-1))}`)
      : card("Training held by a save", "–", "no save yet"));
    const over = picture.saves.filter((save) => known(save.ended_at));
    const failed = over.filter((save) => save.phase !== "committed").length;
    cards.push(card("Saves that failed", `${failed}`, `of the last ${over.length}`, failed ? "bad" : ""));
  } else {
    cards.push(card("Checkpoints", `${picture.checkpoints.length}`, size(picture.checkpoints.reduce((sum, each) => sum + each.bytes, 0))));
  }
  put("cards", ...cards);
}

function doing(worker, save) {
  const part = save && save.parts.find((each) => each.worker === worker.worker);
  if (!save) return "";
  if (part && known(part.given_up_at)) return h("span", {class: "bad"}, "done without: others write its share");
  if (!part) return h("span", {class: "warn"}, "not there yet");
  if (!known(save.agreed_at)) return "waits for the others";
  if (!part.share_bytes) return known(part.written_at) ? "nothing to write" : "begins to write";
  const inner = h("i", {});
  inner.style.width = `${percent(part)}%`;
  return [h("span", {class: "bar"}, inner), `${size(part.written_bytes)} of ${size(part.share_bytes)}`];
}

function drawWorkers(picture, inFlight) {
  if (!picture.workers.length) {
    put("workers", h("span", {class: "quiet"}, "Not known: the job does not run, or cannot be reached."));
    return;
  }
  const kinds = {present: "good", lost: "bad", joining: "warn", absent: "warn", left: "dim"};
  const rows = picture.workers.map((worker) => [
    `${worker.worker}`,
    h("span", {class: kinds[worker.presence]}, worker.presence === "lost" ? `● lost for ${age(worker.heard_s)}` : `● ${worker.presence}`),
    worker.step < 0 ? "–" : worker.step.toLocaleString(),
    known(worker.steps_per_s) ? worker.steps_per_s.toPrecision(3) : "–",
    known(worker.stall_s) ? seconds(worker.stall_s) : "–",
    h("span", {class: "quiet"}, worker.address ? `${worker.address}, pid ${worker.pid}` : ""),
    h("td", {}, doing(worker, inFlight)),
  ]);
  put("workers", table(["worker", "state", "#step", "#steps/s", "#last stall", "where", inFlight ? "save in flight" : ""], rows));
}

const shown = (picture) => picture.saves.find((each) => each.round === chosen) || picture.saves.at(-1);

function phasesOf(save, end) {
  const agreed = save.agreed_at ?? end, committing = save.committing_at ?? end;
  return [["gather", save.opened_at, agreed], ["write", agreed, committing], ["commit", committing, end]]
    .filter(([, from, to]) => to > from);
}

function drawHistory(picture) {
  const saves = picture.saves.slice(-SAVES_DRAWN);
  if (!saves.length) {
    put("history", h("span", {class: "quiet"}, picture.source === "live" ? "No save yet in this start of the job."
      : "Known only while the job runs."));
    return;
  }
  const width = 1100, height = 130, left = 52, base = 106, step = Math.min(46, (width - left) / saves.length);
  const length = (save) => (save.ended_at ?? picture.at) - save.opened_at;
  const most = Math.max(0.001, ...saves.map(length)), scale = 92 / most;
  const axis = [0, 0.5, 1].flatMap((part) => [s("line", {x1: left, x2: width, y1: base - part * 92, y2: base - part * 92, class: "axis"}),
    text(left - 6, base - part * 92 + 4, seconds(part * most), "end")]);
  const bars = saves.map((save, index) => {
    const x = left + index * step + 2, end = save.ended_at ?? picture.at, failed = known(save.ended_at) && save.phase !== "committed";
    const told = `${save.name}: ${failed ? `${save.cause}: ${save.message}` : save.phase}, ${seconds(length(save))}`;
    const parts = failed ? [box(x + 3, base - Math.max(3, length(save) * scale), step - 10, Math.max(3, length(save) * scale), "failed")]
      : phasesOf(save, end).map(([kind, from, to]) => box(x + 3, base - (to - save.opened_at) * scale, step - 10, Math.max(0.5, (to - from) * scale), kind, "", 0));
    const label = step > 30 || index % Math.ceil(38 / step) === 0 ? [text(x + step / 2 - 2, base + 16, `${save.step}`, "middle")] : [];
    const group = s("g", {class: `pick${save === shown(picture) ? " chosen" : ""}`, tabindex: 0, "data-round": save.round},
      box(x, 6, step - 4, base - 4, "hit", told), parts, label);
    const pick = () => { chosen = save.round; draw(picture); };
    group.addEventListener("click", pick);
    group.addEventListener("keydown", (event) => { if (event.key === "Enter") pick(); });
    return group;
  });
  const focused = document.activeElement.dataset.round;
  put("history", svg(width, height, "How long the last saves took", axis, bars));
  if (focused) at("history").querySelector(`[data-round="${focused}"]`)?.focus();
}

function ticks(span) {
  const rough = span / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  return Array.from({length: Math.floor(span / step) + 1}, (_, index) => index * step);
}

function drawGantt(picture) {
  const save = shown(picture);
  at("gantt-title").hidden = at("legend").hidden = !save;
  if (!save) { put("gantt"); return; }
  const end = save.ended_at ?? picture.at;
  const last = Math.max(end, ...save.parts.map((part) => (known(part.stall_s) ? part.came_at + part.stall_s : end)));
  const span = Math.max(0.001, last - save.opened_at), width = 1100, left = 78, row = save.parts.length > 24 ? 14 : 24;
  const x = (time) => left + (time - save.opened_at) / span * (width - left - 12), failed = known(save.ended_at) && save.phase !== "committed";
  const height = (save.parts.length + 1) * row + 26;
  at("gantt-title").textContent = `${save.name}: ${failed ? `failed: ${save.cause}: ${save.message}` : save.phase}`
    + (save.reason ? ` – because of ${save.reason}` : "") + ` – begun ${clock(save.opened_at)}, ${seconds(end - save.opened_at)}${save.bytes ? `, ${size(save.bytes)}` : ""}`;
  at("gantt-title").className = failed ? "bad" : "";
  const axis = ticks(span).flatMap((tick) => {
    const there = x(save.opened_at + tick);
    return [s("line", {x1: there, x2: there, y1: 0, y2: height - 18, class: "axis"}), text(there, height - 4, seconds(tick), tick ? "middle" : "start")];
  });
  const rows = save.parts.flatMap((part, index) => ganttRow(save, part, index * row, row, end, x));
  const y = save.parts.length * row;
  const commit = [text(left - 8, y + row / 2 + 4, "commit", "end")];
  if (known(save.committing_at)) commit.push(box(x(save.committing_at), y + 4, Math.max(2, x(end) - x(save.committing_at)), row - 10, "commit", `commit: ${seconds(end - save.committing_at)}`));
  if (failed) commit.push(box(x(end) - 2, 0, 3, y + row, "failed", `${save.cause}: ${save.message}`));
  put("gantt", svg(width, height, `The phases of the save of step ${save.step}, by worker`, axis, rows, commit));
}

function ganttRow(save, part, y, row, end, x) {
  if (!known(part.came_at)) return [text(70, y + row / 2 + 4, `worker ${part.worker}`, "end"), text(x(save.opened_at) + 4, y + row / 2 + 4, "did not come: others wrote its share")];
  const agreed = Math.max(part.came_at, save.agreed_at ?? end), written = part.written_at ?? part.given_up_at ?? end, done = save.committing_at ?? end;
  const extra = part.extra_bytes ? `, ${size(part.extra_bytes)} of it in another's place` : "";
  const share = part.share_bytes ? `, ${size(part.share_bytes + part.extra_bytes)}${extra}` : extra, thick = row - 10, span = (from, to) => x(to) - x(from);
  const bars = [text(70, y + row / 2 + 4, `worker ${part.worker}`, "end"),
    box(x(part.came_at), y + 4, span(part.came_at, agreed), thick, "gather", `worker ${part.worker} waits for all: ${seconds(agreed - part.came_at)}`)];
  if (known(save.agreed_at)) {
    bars.push(box(x(agreed), y + 4, Math.max(1, span(agreed, written)), thick, "write", `worker ${part.worker} writes: ${seconds(written - agreed)}${share}`));
    if (known(part.written_at)) bars.push(box(x(written), y + 4, span(written, done), thick, "wait", `worker ${part.worker} has written: ${seconds(done - written)} till all have`));
  }
  if (known(part.given_up_at)) bars.push(box(x(part.given_up_at) - 2, y + 2, 4, thick + 4, "failed", `worker ${part.worker} was done without from here on: others wrote its share`));
  if (known(part.stall_s)) bars.push(box(x(part.came_at), y + row - 5, Math.max(2, span(part.came_at, part.came_at + part.stall_s)), 3, "stall", `its training was held for ${seconds(part.stall_s)}`, 0));
  return bars;
}

function drawSteps(picture) {
  const steps = picture.steps;
  if (steps.length < 2) {
    put("steps", h("span", {class: "quiet"}, "Known while the job runs and its script calls step_end."));
    return;
  }
  const width = 1100, height = 170, left = 52, base = 146, from = steps[0].at - steps[0].mean_s, to = steps.at(-1).at;
  const sorted = steps.map((each) => each.longest_s).sort((a, b) => a - b);
  const most = Math.max(sorted.at(-1), 1e-6), x = (time) => left + (time - from) / (to - from) * (width - left - 8), y = (value) => base - value / most * 132;
  const axis = [0, 0.5, 1].flatMap((part) => [s("line", {x1: left, x2: width, y1: y(part * most), y2: y(part * most), class: "axis"}),
    text(left - 6, y(part * most) + 4, seconds(part * most), "end")]);
  const bands = picture.saves.filter((save) => (save.ended_at ?? to) > from).map((save) => {
    const begin = Math.max(from, save.opened_at), end = Math.min(to, save.ended_at ?? to);
    return box(x(begin), base - 132, Math.max(2, x(end) - x(begin)), 132, "band", `save of step ${save.step}`, 0);
  });
  const line = s("polyline", {class: "mean", points: steps.map((each) => `${x(each.at).toFixed(1)},${y(each.mean_s).toFixed(1)}`).join(" ")});
  const usual = sorted[sorted.length >> 1];
  const dots = steps.filter((each) => each.longest_s > 1.5 * usual).map((each) =>
    s("circle", {cx: x(each.at), cy: y(each.longest_s), r: 2.6, class: "longest"}, s("title", {}, `up to step ${each.step}: the longest took ${seconds(each.longest_s)}`)));
  const words = [text(left, height - 6, `${clock(from)}`), text(width - 8, height - 6, `${clock(to)}, step ${steps.at(-1).step.toLocaleString()}`, "end")];
  put("steps", svg(width, height, "How long training steps took", bands, axis, line, dots, words));
}

function drawCheckpoints(picture) {
  if (!picture.checkpoints.length) {
    put("checkpoints", h("span", {class: "quiet"}, "Nothing is committed yet."));
    return;
  }
  const rows = picture.checkpoints.slice().reverse().map((each) => [
    each.name, each.step.toLocaleString(), `${age(picture.at - each.committed_at)} ago`, size(each.bytes), `${each.generation}`,
    h("td", {class: "words"}, Object.entries(each.metrics).map(([name, value]) => `${name} ${known(value) ? Number(value.toPrecision(5)) : "NaN"}`).join(", ")),
    h("td", {class: "words"}, each.kept.length ? each.kept.map((reason) => h("span", {class: "reason"}, reason))
      : h("span", {class: "quiet"}, picture.source === "live" ? "the next commit removes it" : "")),
  ]);
  put("checkpoints", table(["name", "#step", "#committed", "#size", "#generation", "metrics", "why it is kept"], rows));
}

function drawTroubles(picture) {
  const shown = picture.troubles.slice().reverse().map((each) =>
    h("div", {class: "trouble"}, h("span", {class: "quiet"}, `${new Date(each.at * 1000).toLocaleString()}  `), h("b", {}, each.cause), ` ${each.message}`));
  put("troubles", ...(shown.length ? shown : [h("span", {class: "quiet"}, "Nothing.")]));
}

function drawLegend() {
  put("legend", ...PHASES.map(([kind, words]) => h("li", {}, s("svg", {viewBox: "0 0 12 12", "aria-hidden": "true"}, box(0, 0, 12, 12, kind)), words)));
}

function draw(picture) {
  const inFlight = picture.saves.find((save) => !known(save.ended_at)) || null;
  for (const each of [drawHead, drawHistory, drawGantt, drawSteps, drawCheckpoints, drawTroubles]) each(picture);
  for (const each of [drawCards, drawWorkers]) each(picture, inFlight);
}

// -------------------------------------------------------------------------------------------------------------- polling

function late(words) {
  at("fresh").textContent = words;
  at("fresh").className = "late";
  at("main").className = "late";
}

async function ask() {
  let answer;
  try {
    answer = await fetch("picture.json", {headers: {Authorization: `Bearer ${token}`}, cache: "no-store"});
  } catch (error) {
    late(`no answer${drawn ? ` since ${drawn}` : ""}`);
    return true;
  }
  if (answer.status === 401) {
    sessionStorage.removeItem("token");
    at("door").hidden = false;
    at("main").hidden = true;
    late(token ? "this token is not the one" : "");
    return false;
  }
  if (!answer.ok) {
    late(`cannot be read just now: ${await answer.text()}`);
    return true;
  }
  const picture = await answer.json();
  drawn = clock(picture.at);
  at("fresh").textContent = `as of ${drawn}`;
  at("fresh").className = "quiet";
  at("main").className = "";
  at("main").hidden = false;
  at("door").hidden = true;
  draw(picture);
  return true;
}

async function follow() {
  if (await ask()) setTimeout(follow, EVERY_MS);
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  follow();
});
// The token comes behind a '#', which a browser sends to nobody; it does not stay in the address.
token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", token);
if (location.hash) history.replaceState(null, "", location.pathname);
drawLegend();
follow();
