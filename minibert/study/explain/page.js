"use strict";
// The stored numbers are read as arrays.py wrote them; everything else is computed by the lesson's equations.

const facts = JSON.parse(document.getElementById("facts").textContent);
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{|";
const state = { sentence: 0, step: 0, head: 0, from: 0, to: 0, part: 0, dimension: 0 };
const memory = new Map();
let bytes, count, steps;

const byId = (id) => document.getElementById(id);
const current = () => facts.sentences[state.sentence];
const tokens = () => current().tokens;
const named = (column) => `${tokens()[column]} (${column})`;

// Reading.

async function inflate(text) {
  const digit = new Uint8Array(128);
  for (let n = 0; n < 85; n++) digit[ALPHABET.charCodeAt(n)] = n;
  const packed = new Uint8Array((text.length / 5) * 4);
  for (let i = 0, o = 0; i < text.length; i += 5, o += 4) {
    let word = 0;
    for (let k = 0; k < 5; k++) word = word * 85 + digit[text.charCodeAt(i + k)];
    packed[o] = word >>> 24; packed[o + 1] = word >>> 16; packed[o + 2] = word >>> 8; packed[o + 3] = word;
  }
  const stream = new DecompressionStream("deflate-raw"), writer = stream.writable.getWriter();
  writer.write(packed.subarray(0, facts.bytes));
  writer.close();
  const parts = [], reader = stream.readable.getReader();
  let size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    size += part.value.length;
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}

function half(high, low) {
  const exponent = (high >> 2) & 31, fraction = ((high & 3) << 8) | low;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return high & 128 ? -size : size;
}

function array(name) {
  if (memory.has(name)) return memory.get(name);
  const { at, shape, scale } = facts.index[name];
  const values = new Float64Array(shape.reduce((a, b) => a * b, 1));
  for (let n = 0; n < values.length; n++) values[n] = half(bytes[at + n], bytes[count + at + n]) * scale;
  memory.set(name, values);
  return values;
}

const stored = (name) => array(`${state.sentence}.${name}`);
const segmented = "segment" in facts.index;
const row = (values, number, width) => values.subarray(number * width, (number + 1) * width);

// The equations of the lesson, for all pieces of the sentence.

function norm(total, name) {
  const D = facts.size, gain = array(`norm.${name}.gain`), bias = array(`norm.${name}.bias`);
  const result = new Float64Array(total.length);
  for (let t = 0; t * D < total.length; t++) {
    const { mean, deviation } = spread(row(total, t, D));
    for (let d = 0; d < D; d++) result[t * D + d] = ((total[t * D + d] - mean) / deviation) * gain[d] + bias[d];
  }
  return result;
}

function spread(values) {
  let mean = 0, square = 0;
  for (const value of values) mean += value / values.length;
  for (const value of values) square += (value - mean) ** 2 / values.length;
  return { mean, deviation: Math.sqrt(square + facts.eps) };
}

const plus = (a, b) => a.map((value, n) => value + b[n]);

function segments() {
  const D = facts.size, table = array("segment"), result = new Float64Array(tokens().length * D);
  current().segments.forEach((segment, t) => result.set(row(table, segment, D), t * D));
  return result;
}

function embedded() {
  return once("embedded", () => {
    let sum = stored("word");
    if (segmented) sum = plus(sum, segments());
    sum = plus(sum, stored("position"));
    return { sum, norm: norm(sum, "embeddings") };
  });
}

function layer(number) {
  return once(`layer ${number}`, () => {
    const input = number ? layer(number - 1).output : embedded().norm;
    const first = plus(input, stored(`${number}.attended`)), middle = norm(first, `${number}.attention`);
    const second = plus(middle, stored(`${number}.fed`)), output = norm(second, `${number}.feed`);
    return { input, first, middle, second, output };
  });
}

function once(name, make) {
  const key = `${state.sentence} ${name}`;
  if (!memory.has(key)) memory.set(key, make());
  return memory.get(key);
}

function vector(kind, number, column, head) {
  const H = facts.headSize, N = facts.heads[number];
  return row(stored(`${number}.${kind}`), column * N + head, H);
}

function patternRow(number, head, column) {
  const S = tokens().length;
  return row(stored(`${number}.pattern`), head * S + column, S);
}

const dot = (a, b) => a.reduce((sum, value, n) => sum + value * b[n], 0);

function scoresOf(number, head, column) {
  const query = vector("query", number, column, head);
  return tokens().map((_, other) => dot(query, vector("key", number, other, head)) / Math.sqrt(facts.headSize));
}

function contextOf(number, head, column) {
  const weights = patternRow(number, head, column), result = new Float64Array(facts.headSize);
  weights.forEach((weight, other) => vector("value", number, other, head).forEach((v, d) => { result[d] += weight * v; }));
  return result;
}

// Writing.

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const safe = (text) => String(text).replace(/[&<>"]/g, (sign) => escapes[sign]);
const shown = (value) => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(4))) : value.toExponential(3);
};
const minus = (text) => text.replace(/^-/, "\u2212");
const num = (value) => minus(shown(value));
const term = (a, b) => `${num(a)} \u00d7 ${num(b)}`;

function strongest(values, most) {
  return [...values.keys()].sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, most);
}

function sumOfProducts(a, b, most = 4) {
  const products = Array.from(a, (value, n) => value * b[n]), best = strongest(products, most);
  const rest = products.reduce((sum, value) => sum + value, 0) - best.reduce((sum, n) => sum + products[n], 0);
  const others = products.length - best.length;
  return best.map((n) => term(a[n], b[n])).join(" + ") + (others > 0 ? ` + ${num(rest)} <small>(${others} more)</small>` : "");
}

const equation = (html) => `<p class="equation">${html}</p>`;

function colour(value, most) {
  const style = getComputedStyle(document.documentElement);
  const strength = Math.min(1, Math.sqrt(Math.abs(value) / (most || 1)));
  return { fill: style.getPropertyValue(value > 0 ? "--plus" : "--minus"), strength };
}

// A row of numbers as colours; a click chooses one of them for the equation.
function strip(label, values, field = "part") {
  return { label, values, field };
}

function drawStrips(place, strips) {
  for (const { label, values, field } of strips) {
    const box = document.createElement("div"), chosen = Math.min(state[field], values.length - 1);
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    box.className = "strip";
    box.innerHTML = `<div class="label"><b>${label}</b><span>[${chosen}] = ${num(values[chosen])}; ${values.length} numbers, ${num(low)} to ${num(high)}</span></div>`;
    const canvas = document.createElement("canvas");
    canvas.width = values.length * Math.max(1, Math.floor(1200 / values.length));
    canvas.height = 24;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${box.textContent}`);
    const pen = canvas.getContext("2d"), width = canvas.width / values.length, most = Math.max(-low, high);
    values.forEach((value, n) => {
      const { fill, strength } = colour(value, most);
      pen.globalAlpha = strength;
      pen.fillStyle = fill;
      pen.fillRect(n * width, 0, width, 24);
    });
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
    pen.lineWidth = 3;
    pen.strokeRect(chosen * width, 0, Math.max(width, 3), 24);
    canvas.onclick = (event) => {
      const rectangle = canvas.getBoundingClientRect();
      go({ [field]: Math.min(values.length - 1, Math.floor(((event.clientX - rectangle.left) / rectangle.width) * values.length)) });
    };
    box.append(canvas);
    place.append(box);
  }
}

function numberField(field, size, label) {
  return `<label>${label} <input type="number" data-field="${field}" min="0" max="${size - 1}" value="${Math.min(state[field], size - 1)}"></label>`;
}

function pieceTable(header, cells, target = "to") {
  const head = header.map((name, n) => `<th scope="col"${n ? ' class="number"' : ""}>${name}</th>`).join("");
  const body = tokens().map((_, column) => {
    const chosen = state[target] === column ? ' class="chosen"' : "";
    return `<tr${chosen}><th scope="row"><button data-${target}="${column}" aria-pressed="${state[target] === column}">${safe(named(column))}</button></th>${cells(column)}</tr>`;
  });
  return `<div class="wide" tabindex="0"><table><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}

const meter = (value) => `<td class="meter"><i style="width:${(100 * value).toFixed(1)}%"></i></td>`;

// The steps.

const KINDS = {
  pieces: {
    title: "Text to pieces",
    text: "WordPiece cuts each word at the longest pieces that the vocabulary has; every piece has a number, its id.",
    draw: (panel) => { panel.append(part("pieces").cloneNode(true)); },
  },
  embeddings: {
    title: "Three embeddings and a sum",
    text: "A piece becomes a vector: its row of the word table, plus the row of its column, plus the row of its segment; then a layer norm.",
    draw: (panel) => {
      const D = facts.size, at = state.from, d = Math.min(state.dimension, D - 1), { sum, norm: normed } = embedded();
      const parts = ["word", ...(segmented ? ["segment"] : []), "position"];
      const of = (name) => row(name === "segment" ? segments() : stored(name), at, D), total = row(sum, at, D);
      panel.insertAdjacentHTML("beforeend", numberField("dimension", D, "dimension") +
        equation(`sum[${d}] of ${safe(named(at))} = ${parts.map((name) => `${name} ${num(of(name)[d])}`).join(" + ")} = <b>${num(total[d])}</b>`) +
        normEquation(total, "embeddings", d));
      drawStrips(panel, [...parts.map((name) => strip(`${name} embedding`, of(name), "dimension")),
        strip("sum", total, "dimension"), strip("layer norm", row(normed, at, D), "dimension")]);
    },
  },
  vectors: {
    title: "Query, key and value",
    text: "Each head makes three short vectors of every piece: what it looks for, what it can be found by, and what it hands on.",
    draw: (panel, n) => {
      const H = facts.headSize, d = Math.min(state.part, H - 1), get = (kind) => vector(kind, n, state.from, state.head);
      panel.insertAdjacentHTML("beforeend", numberField("part", H, "component") +
        equation(`query[${d}] of ${safe(named(state.from))} = W<sub>q</sub>[${d}] \u00b7 hidden + b<sub>q</sub>[${d}] = <b>${num(get("query")[d])}</b>, from all ${facts.size} numbers of its hidden state`));
      drawStrips(panel, ["query", "key", "value"].map((kind) => strip(`${kind} of ${safe(named(state.from))}`, get(kind))));
    },
  },
  scores: {
    title: "Scores: query times key",
    text: "How well the query of one piece fits the key of another: their product, divided by the root of the head size.",
    draw: (panel, n) => {
      const H = facts.headSize, query = vector("query", n, state.from, state.head), key = vector("key", n, state.to, state.head);
      const scores = scoresOf(n, state.head, state.from), products = query.map((q, d) => (q * key[d]) / Math.sqrt(H));
      panel.insertAdjacentHTML("beforeend",
        equation(`score(${safe(named(state.from))}, ${safe(named(state.to))}) = (${sumOfProducts(query, key)}) / \u221a${H} = <b>${num(scores[state.to])}</b>`));
      drawStrips(panel, [strip(`query of ${safe(named(state.from))}`, query), strip(`key of ${safe(named(state.to))}`, key),
        strip("their products / \u221aH: which components make the score", products)]);
      const best = strongest(products, 6).map((d) => `<tr><th scope="row">${d}</th><td class="number">${num(query[d])}</td><td class="number">${num(key[d])}</td><td class="number">${num(products[d])}</td></tr>`).join("");
      panel.insertAdjacentHTML("beforeend", `<h3>The strongest components</h3><div class="wide"><table><thead><tr><th scope="col">component</th><th scope="col" class="number">query</th><th scope="col" class="number">key</th><th scope="col" class="number">product / \u221aH</th></tr></thead><tbody>${best}</tbody></table></div>
        <h3>${safe(named(state.from))} with every piece</h3>` + pieceTable(["key of", "score"], (column) => `<td class="number">${num(scores[column])}</td>`));
    },
  },
  pattern: {
    title: "Softmax: the pattern",
    text: "The scores of a piece become weights that add up to 1: the share of each piece in what this piece reads.",
    draw: (panel, n) => {
      const scores = scoresOf(n, state.head, state.from), weights = patternRow(n, state.head, state.from);
      const top = Math.max(...scores), total = scores.reduce((sum, score) => sum + Math.exp(score - top), 0);
      panel.insertAdjacentHTML("beforeend",
        equation(`pattern(${safe(named(state.from))}, ${safe(named(state.to))}) = exp(${num(scores[state.to])} \u2212 ${num(top)}) / ${num(total)} = <b>${num(weights[state.to])}</b>`) +
        `<div id="pattern-view">${headView(n)}<canvas class="map" role="img" aria-label="The pattern of layer ${n}, head ${state.head}: rows read, columns are read."></canvas></div>` +
        pieceTable(["is read", "score", "exp", "pattern", "share"], (column) => `<td class="number">${num(scores[column])}</td><td class="number">${num(Math.exp(scores[column] - top))}</td><td class="number">${num(weights[column])}</td>${meter(weights[column])}`));
      drawMap(panel.querySelector("canvas.map"), n);
    },
  },
  context: {
    title: "Context: the mean of the values",
    text: "The values of all pieces, each times its weight, added up: this is all that passes from piece to piece in BERT.",
    draw: (panel, n) => {
      const H = facts.headSize, d = Math.min(state.part, H - 1), weights = patternRow(n, state.head, state.from);
      const context = contextOf(n, state.head, state.from), values = tokens().map((_, column) => vector("value", n, column, state.head)[d]);
      panel.insertAdjacentHTML("beforeend", numberField("part", H, "component") +
        equation(`context[${d}] = ${sumOfProducts(weights, values)} = <b>${num(context[d])}</b>`));
      drawStrips(panel, [strip(`context of ${safe(named(state.from))}`, context),
        ...strongest(weights, 3).map((column) => strip(`value of ${safe(named(column))}, weight ${num(weights[column])}`, vector("value", n, column, state.head)))]);
    },
  },
  add: {
    title: "Output, residual and norm",
    text: "The contexts of all heads are mixed by one matrix and added to what went in; a layer norm follows the sum.",
    draw: (panel, n) => { const { input, first, middle } = layer(n); sumAndNorm(panel, input, stored(`${n}.attended`), first, middle, `${n}.attention`, "attention output"); },
  },
  feed: {
    title: "Feed-forward",
    text: "Each piece by itself: many neurons fire or stay silent, each writes its vector, and their sum is added; a layer norm follows.",
    draw: (panel, n) => {
      const { middle, second, output } = layer(n);
      sumAndNorm(panel, middle, stored(`${n}.fed`), second, output, `${n}.feed`, "feed-forward output");
      const rows = current().neurons[n][state.from].map(([number, active, strength]) => `<tr><th scope="row">${number}</th><td class="number">${num(active)}</td><td class="number">${num(strength)}</td></tr>`);
      panel.insertAdjacentHTML("beforeend", `<h3>The strongest of ${facts.inner} neurons</h3><div class="wide"><table><thead><tr><th scope="col">neuron</th><th scope="col" class="number">activation</th><th scope="col" class="number">length of what it writes</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`);
    },
  },
  lens: {
    title: "The lens: what each layer would answer",
    text: "Every layer's hidden states go through the head of the last one; the colour is the probability of the best answer.",
    draw: (panel) => { panel.append(part("lens").cloneNode(true)); },
  },
  answer: {
    title: "The answer and its account",
    text: "The head turns the last hidden states into the answer; the account says what each part of the network wrote towards it.",
    draw: (panel) => {
      panel.append(part("answer").cloneNode(true));
      for (const line of panel.querySelectorAll("tr[data-layer]")) {
        const name = line.querySelector("th"), { layer: number, head } = line.dataset;
        const to = steps.findIndex((step) => step.layer === Number(number) && step.kind === (head === undefined ? "feed" : "pattern"));
        name.innerHTML = `<button data-step="${to}"${head === undefined ? "" : ` data-head="${head}"`}>${safe(name.textContent)}</button>`;
      }
    },
  },
};

function normEquation(total, name, d) {
  const { mean, deviation } = spread(total), gain = array(`norm.${name}.gain`)[d], bias = array(`norm.${name}.bias`)[d];
  const value = ((total[d] - mean) / deviation) * gain + bias;
  return equation(`norm[${d}] = (${num(total[d])} \u2212 ${num(mean)}) / ${num(deviation)} \u00d7 ${num(gain)} + ${num(bias)} = <b>${num(value)}</b>`);
}

function sumAndNorm(panel, before, written, total, after, name, what) {
  const D = facts.size, at = state.from, d = Math.min(state.dimension, D - 1), of = (values) => row(values, at, D);
  panel.insertAdjacentHTML("beforeend", numberField("dimension", D, "dimension") +
    equation(`residual[${d}] = ${num(of(before)[d])} + ${num(of(written)[d])} = <b>${num(of(total)[d])}</b>`) + normEquation(of(total), name, d));
  drawStrips(panel, [["what went in", before], [what, written], ["residual: their sum", total], ["layer norm", after]].map(([label, values]) => strip(label, of(values), "dimension")));
}

// Two lists of pieces, and a line for each weight of the chosen head; the chosen piece's own are strong.
function headView(n) {
  const S = tokens().length, height = Math.max(18, Math.min(26, 900 / S)), lines = [], texts = [];
  for (let i = 0; i < S; i++) {
    patternRow(n, state.head, i).forEach((weight, j) => {
      if (weight < 0.02 && i !== state.from) return;
      const strength = i === state.from ? weight : weight * 0.25;
      if (strength > 0.004) lines.push(`<line x1="122" x2="258" y1="${(i + 0.5) * height}" y2="${(j + 0.5) * height}" stroke-opacity="${strength.toFixed(3)}" stroke-width="${i === state.from ? 3 : 1.5}"/>`);
    });
    const cut = safe(tokens()[i].slice(0, 14));
    texts.push(`<text x="116" y="${(i + 0.5) * height + 4}" text-anchor="end" data-from="${i}"${i === state.from ? ' class="chosen"' : ""}>${cut}</text><text x="264" y="${(i + 0.5) * height + 4}" data-to="${i}"${i === state.to ? ' class="chosen"' : ""}>${cut}</text>`);
  }
  return `<div class="lines" tabindex="0"><svg id="lines" viewBox="0 0 380 ${S * height}" role="img" aria-label="Lines from each piece to those it reads, layer ${n}, head ${state.head}.">${lines.join("")}${texts.join("")}</svg></div>`;
}

function drawMap(canvas, n) {
  const S = tokens().length, cell = Math.max(2, Math.floor(480 / S)), pen = canvas.getContext("2d");
  canvas.width = canvas.height = S * cell;
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  for (let i = 0; i < S; i++) patternRow(n, state.head, i).forEach((weight, j) => {
    pen.globalAlpha = Math.sqrt(weight);
    pen.fillRect(j * cell, i * cell, cell, cell);
  });
  pen.globalAlpha = 1;
  pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--plus");
  pen.lineWidth = Math.max(1, cell / 8);
  pen.strokeRect(state.to * cell, state.from * cell, cell, cell);
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect(), at = (x, start, size) => Math.min(S - 1, Math.max(0, Math.floor(((x - start) / size) * S)));
    go({ from: at(event.clientY, box.top, box.height), to: at(event.clientX, box.left, box.width) });
  };
}

const part = (name) => document.querySelector(`#static [data-sentence="${state.sentence}"] [data-part="${name}"]`);

// Drawing a state.

function makeSteps() {
  const list = [{ kind: "pieces" }, { kind: "embeddings" }];
  for (let n = 0; n < facts.layers; n++) for (const kind of ["vectors", "scores", "pattern", "context", "add", "feed"]) list.push({ kind, layer: n });
  for (const kind of ["lens", "answer"]) if (part(kind)) list.push({ kind });
  return list;
}

function drawSteps() {
  const step = steps[state.step], of = (value) => (step.layer === undefined ? "" : value);
  const options = (size, chosen) => Array.from({ length: size }, (_, n) => `<option${n === chosen ? " selected" : ""}>${n}</option>`).join("");
  byId("steps").innerHTML = `<button data-step="${Math.max(0, state.step - 1)}" aria-label="Previous step">\u2190</button>
    <button data-step="${Math.min(steps.length - 1, state.step + 1)}" aria-label="Next step">\u2192</button>
    <span class="where">step ${state.step + 1} of ${steps.length}</span>
    <button data-step="0"${step.kind === "pieces" ? ' aria-current="step"' : ""}>ids</button>
    <button data-step="1"${step.kind === "embeddings" ? ' aria-current="step"' : ""}>embeddings</button>
    <label>layer <select id="layer"><option value="">\u2013</option>${options(facts.layers, step.layer)}</select></label>
    ${of(`<label>head <select id="head">${options(facts.heads[step.layer], state.head)}</select></label>`)}
    ${steps.map((each, n) => (each.layer === undefined && n > 1 ? `<button data-step="${n}"${n === state.step ? ' aria-current="step"' : ""}>${each.kind}</button>` : "")).join("")}`;
  if (step.layer === undefined) byId("layer").value = "";
}

function drawStrip() {
  const { words, ids } = current();
  let html = "", open = -1;
  tokens().forEach((token, column) => {
    if (words[column] !== open) {
      html += `${open >= 0 ? "</span>" : ""}<span class="word${words.filter((word) => word === words[column]).length > 1 ? " split" : ""}">`;
      open = words[column];
    }
    const kind = token === "[UNK]" ? "unknown" : /^\[(CLS|SEP|PAD|MASK)\]$/.test(token) ? "special" : "";
    html += `<button class="${kind}" data-from="${column}" aria-pressed="${column === state.from}">${safe(token)}<small>${ids[column]}</small></button>`;
  });
  byId("strip").innerHTML = html + "</span>";
}

function drawSide() {
  const side = byId("side"), view = part("view").cloneNode(true), sheet = view.querySelector(".sheet"), step = steps[state.step];
  view.querySelector("img").alt = "";
  const { layers, heads } = sheet.dataset, grid = document.createElement("div");
  grid.className = "grid";
  grid.setAttribute("role", "group");
  grid.setAttribute("aria-label", "Heads");
  grid.style.gridTemplate = `repeat(${layers}, 1fr) / repeat(${heads}, 1fr)`;
  for (let n = 0; n < layers; n++) for (let h = 0; h < heads; h++) {
    const to = steps.findIndex((each) => each.layer === n && each.kind === "pattern"), exists = h < facts.heads[n];
    grid.insertAdjacentHTML("beforeend", exists
      ? `<button data-step="${to}" data-head="${h}" aria-label="layer ${n}, head ${h}" title="layer ${n}, head ${h}" aria-pressed="${step.layer === n && state.head === h}" tabindex="${h || n ? -1 : 0}"></button>`
      : "<span></span>");
  }
  sheet.append(grid);
  side.replaceChildren(...view.children);
}

function drawPanel() {
  const step = steps[state.step], kind = KINDS[step.kind], panel = byId("panel"), [file, chapter, link] = facts.sources[step.kind];
  const where = step.layer === undefined ? "" : `Layer ${step.layer}${["add", "feed"].includes(step.kind) ? "" : `, head ${state.head}`}: `;
  const source = link ? `<a href="${safe(encodeURI(link))}">${file}</a>` : file;
  panel.innerHTML = `<h2 id="step-title" tabindex="-1">${where}${kind.title}</h2><p>${kind.text} <span class="small">In ${source}, chapter ${chapter}.</span></p>`;
  kind.draw(panel, step.layer);
  panel.querySelectorAll(":scope > section > h2").forEach((title) => title.remove());
}

function drawSwitch() {
  byId("text").textContent = current().text;
  byId("switch").hidden = facts.sentences.length < 2;
  byId("switch").innerHTML = facts.sentences.map((each, n) => `<button data-sentence="${n}" aria-pressed="${n === state.sentence}">${safe(each.text)}</button>`).join(" ");
}

function go(change) {
  Object.assign(state, change);
  const S = tokens().length, step = steps[state.step];
  state.from = Math.min(state.from, S - 1);
  state.to = Math.min(state.to, S - 1);
  if (step.layer !== undefined) state.head = Math.min(state.head, facts.heads[step.layer] - 1);
  // What had the focus is drawn anew; where it is gone, the focus goes to the title of the step.
  const focus = document.activeElement?.closest("button, input, select"), inside = focus?.closest("#steps, #strip, #panel, #side, #switch")?.id;
  const same = [...(focus?.attributes ?? [])].filter(({ name }) => /^(id|data-.*)$/.test(name)).map(({ name, value }) => `[${name}="${value}"]`).join("");
  drawSwitch(); drawSteps(); drawStrip(); drawPanel(); drawSide();
  if (inside) (byId(inside).querySelector(focus.localName + same) ?? byId("step-title")).focus();
}

function chosen(data) {
  const change = {};
  for (const name of ["from", "to", "step", "head", "sentence"]) if (data[name] !== undefined) change[name] = Number(data[name]);
  return change;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-from], [data-to], [data-step], button[data-sentence]");
  if (button && byId("app").contains(button) | byId("switch").contains(button)) go(chosen(button.dataset));
});

document.addEventListener("change", (event) => {
  const { id, value, dataset } = event.target;
  if (id === "head") go({ head: Number(value) });
  if (id === "layer") {
    const kind = steps[state.step].layer === undefined ? "vectors" : steps[state.step].kind;
    go({ step: value === "" ? 1 : steps.findIndex((step) => step.layer === Number(value) && step.kind === kind) });
  }
  if (dataset.field) go({ [dataset.field]: Math.max(0, Math.round(Number(value)) || 0) });
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, .wide") || event.altKey || event.ctrlKey || event.metaKey) return;
  const step = steps[state.step], heads = step.layer === undefined ? 1 : facts.heads[step.layer];
  const moves = { ArrowRight: { step: Math.min(steps.length - 1, state.step + 1) }, ArrowLeft: { step: Math.max(0, state.step - 1) },
    ArrowDown: { head: (state.head + 1) % heads }, ArrowUp: { head: (state.head + heads - 1) % heads } };
  if (moves[event.key]) { event.preventDefault(); go(moves[event.key]); }
});

(async () => {
  bytes = await inflate(byId("numbers").textContent);
  count = Object.values(facts.index).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  steps = makeSteps();
  byId("app").hidden = false;
  byId("static").hidden = true;
  state.from = state.to = Math.min(1, tokens().length - 1);
  go({});
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => go({}));
  document.documentElement.dataset.ready = "yes";
})();
