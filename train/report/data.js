// What the page knows: the description and the block of 32-bit floats that its [offset, length] pairs point into.

async function inflate(id) {
  const text = atob(document.getElementById(id).textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

const report = {};

async function loadReport() {
  const [plotly, description, block] = await Promise.all(["plotly-source", "description", "block"].map(inflate));
  const library = document.createElement("script");
  library.textContent = await plotly.text();
  document.head.append(library);
  Object.assign(report, await description.json());
  report.numbers = new Float32Array(await block.arrayBuffer());
}

const view = ([offset, length]) => report.numbers.subarray(offset, offset + length);
const row = (pair, length, i) => view(pair).subarray(i * length, (i + 1) * length);

// The last of the ascending steps that is not after `step`; -1 when all are.
function latest(steps, step) {
  let i = steps.length - 1;
  while (i >= 0 && steps[i] > step) i--;
  return i;
}

// What a checkpoint's analysis found at just this step; null where none was analysed: another step's would not belong to
// the other curves.
const analysedAt = (found, step) => (found && step in found ? found[step] : null);

const halves = (pair) => {
  const values = view(pair), half = values.length / 2;
  return { x: values.subarray(0, half), y: values.subarray(half) };
};

// Where to find what this step does not have.
function nearestAnalysed(found, step) {
  const steps = [...new Set(found.filter(Boolean).flatMap((one) => Object.keys(one).map(Number)))].sort((a, b) => a - b);
  const i = latest(steps, step);
  const around = [steps[i], steps[i + 1]].filter((one) => one !== undefined && one !== step);
  return `No checkpoint was analysed at step ${step}; see step ${around.join(" or ")}.`;
}

// Put a note in the place of a figure and its caption; an empty note leaves the figure.
function standIn(figure, note) {
  const plot = document.getElementById(figure);
  plot.querySelector(".absent")?.remove();
  plot.classList.toggle("empty", note !== "");
  document.querySelector(`[data-export="${figure}"]`).disabled = note !== "";
  if (!note) return;
  document.getElementById(`${figure}-text`).textContent = "";
  const text = document.createElement("p");
  text.className = "absent";
  text.innerHTML = note;
  plot.append(text);
}

// A run's name, with the step of what is drawn of it where that is an earlier one than the page's.
const named = (run, now) => (now.step === state.step ? run.name : `${run.name} (step ${now.step})`);

// Everything drawn of one layer of one run at its last probed step that is not after `step`; null when there is none.
function spectrum(run, layer, step) {
  const series = run.layers[layer];
  const i = series ? latest(series.steps, step) : -1;
  if (i < 0) return null;
  const points = series.index[1];
  const curves = row(series.curves, 3 * points, i);
  const bins = series.histogram[1] / series.steps.length;
  const cloud = (found) => {
    const pair = analysedAt(found, series.steps[i]);
    return pair && halves(pair);
  };
  return {
    series,
    step: series.steps[i],
    index: view(series.index),
    low: curves.subarray(0, points),
    median: curves.subarray(points, 2 * points),
    high: curves.subarray(2 * points),
    histogram: row(series.histogram, bins, i),
    below: view(series.below)[i],
    value: (quantity) => view(series.numbers[quantity])[i],
    eigenvalues: cloud(series.eigenvalues),
    operator: cloud(series.operator),
    law: series.law && { curve: halves(series.law.density), shift: view(series.law.shift)[i], label: series.law.label },
  };
}

const SYMBOLS = {
  sigma_max: ["σ", "max"], sigma_median: ["σ", "median"], sigma_min: ["σ", "min"], cond: ["κ", ""],
  stable_rank: ["stable rank", ""], effective_rank: ["effective rank", ""],
};
const WORDS = {
  sigma_max: "largest singular value", sigma_median: "median singular value", sigma_min: "smallest singular value",
  cond: "condition number", stable_rank: "stable rank", effective_rank: "effective rank",
};
const symbol = (quantity) => SYMBOLS[quantity][0] + (SYMBOLS[quantity][1] ? `<sub>${SYMBOLS[quantity][1]}</sub>` : "");

// Four significant digits; powers of ten outside 0.001 … 10,000.
function format(value) {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e4)) {
    const [digits, power] = value.toExponential(2).split("e");
    const raised = [...String(Number(power))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("");
    return `${digits.replace("-", "−")}×10${raised}`;
  }
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
