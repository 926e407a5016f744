// Browsing the examples: 100 rows at a time of those that pass the filters. The filters are kept in
// the address after "#", so that a view can be linked to. Texts are set as text, never as HTML.
const data = JSON.parse(document.getElementById("examples-data").textContent);
const [LOSS, LABEL, PREDICTION, PROBABILITY, TOKENS, PARTS, PLACE, RIGHT] = data.columns.keys();
for (const row of data.rows) row[LOSS] ??= Infinity; // JSON has no infinity
const WINDOW = 100;
const fields = ["search", "label", "prediction", "kind", "order"].map((id) => document.getElementById(id)).filter(Boolean);
const plain = data.kind === "regression"; // numbers are neither right nor wrong
let page = 0;

const orders = {
  "highest loss": (a, b) => b[LOSS] - a[LOSS],
  "lowest loss": (a, b) => a[LOSS] - b[LOSS],
  "most confident": (a, b) => b[PROBABILITY] - a[PROBABILITY],
  "least confident": (a, b) => a[PROBABILITY] - b[PROBABILITY],
  "longest": (a, b) => b[TOKENS] - a[TOKENS],
  "shortest": (a, b) => a[TOKENS] - b[TOKENS],
};

// Whether a label or prediction is the one asked for, or one of several.
function holds(answer, asked) {
  if (!asked || answer === asked) return true;
  return data.kind === "multi_label_classification" && answer.split(", ").includes(asked);
}

function chosen() {
  const { search, label, prediction, kind, order } = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const words = search.toLowerCase();
  return data.rows
    .filter((row) => holds(row[LABEL], label) && holds(row[PREDICTION], prediction))
    .filter((row) => !kind || row[RIGHT] === (kind === "right"))
    .filter((row) => !words || (row[PARTS].map(([part]) => part).join("") + " " + row[PLACE]).toLowerCase().includes(words))
    .sort(orders[order] || orders["highest loss"]);
}

function cell(row, value, style) {
  const made = row.insertCell();
  made.textContent = value;
  if (style) made.className = style;
  return made;
}

function show() {
  const rows = chosen();
  const pages = Math.max(1, Math.ceil(rows.length / WINDOW));
  page = Math.min(page, pages - 1);
  const body = document.getElementById("examples-body");
  body.replaceChildren();
  for (const row of rows.slice(page * WINDOW, (page + 1) * WINDOW)) {
    const line = body.insertRow();
    cell(line, row[LOSS].toFixed(3), "number");
    cell(line, row[LABEL], "answer");
    cell(line, row[PREDICTION], plain ? "answer" : row[RIGHT] ? "answer is-right" : "answer is-wrong");
    if (row[PROBABILITY] !== null) cell(line, row[PROBABILITY].toFixed(3), "number");
    if (row[TOKENS] !== null) cell(line, row[TOKENS], "number");
    const text = cell(line, "");
    for (const [part, kind] of row[PARTS]) {
      const stretch = kind ? document.createElement("mark") : document.createTextNode("");
      stretch.textContent = part;
      if (kind) stretch.className = kind;
      text.append(stretch);
    }
    const place = document.createElement("span");
    place.className = "place";
    place.textContent = row[PLACE];
    text.append(place);
  }
  document.getElementById("count").textContent =
    `${rows.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} examples, page ${page + 1} of ${pages}`;
  document.getElementById("before").disabled = page === 0;
  document.getElementById("after").disabled = page + 1 >= pages;
}

function changed() {
  page = 0;
  const named = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.id, field.value]));
  history.replaceState(null, "", "#" + named);
  show();
}

function fromAddress() {
  const named = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) field.value = named.get(field.id) || field.options?.[0].value || "";
  page = 0;
  show();
}

for (const field of fields) field.addEventListener("input", changed);
document.getElementById("before").addEventListener("click", () => { page -= 1; show(); });
document.getElementById("after").addEventListener("click", () => { page += 1; show(); });
for (const button of document.querySelectorAll("button.cell")) {
  button.addEventListener("click", () => {
    document.getElementById("label").value = button.dataset.label;
    document.getElementById("prediction").value = button.dataset.prediction;
    document.getElementById("search").value = document.getElementById("kind").value = "";
    changed();
    document.getElementById("examples").scrollIntoView();
  });
}
for (const hidden of document.querySelectorAll("[data-script]")) hidden.hidden = false;
addEventListener("hashchange", fromAddress);
fromAddress();
