// The controls, and what they move: state in, figures and words out.

const $ = (id) => document.getElementById(id);
const state = { i: 0, step: 0, layer: "", quantity: "cond" };
const darkness = matchMedia("(prefers-color-scheme: dark)");
const theme = () => THEMES[darkness.matches ? "dark" : "light"];
const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false, showTips: false };

function draw(...names) {
  for (const name of names) {
    const width = $(name).clientWidth;
    if (!width) continue; // in a section that has nothing to show
    if (name === "heat") $(name).style.height = $("training").style.height = `${heatHeight(width)}px`;
    const figure = FIGURES[name](state, theme(), width);
    Plotly.react($(name), figure.data, figure.layout, CONFIG);
  }
}

const numbers = (now, quantities) => quantities.map((quantity) =>
  `<span><span class="math">${symbol(quantity)}</span> = <span data-quantity="${quantity}" data-value="${now.value(quantity)}">${format(now.value(quantity))}</span></span>`).join("");

// "plain: from 0.01 to 3" for each run, for captions and screen readers.
const perRun = (words) => report.runs.map((run) => {
  const now = spectrum(run, state.layer, state.step);
  const text = now && words(now);
  return text ? (report.runs.length > 1 ? `${run.name}: ${text}` : text) : "";
}).filter(Boolean).join("; ");

function captions() {
  const cursor = `The dotted line marks step ${state.step}.`;
  $("training-text").textContent = `Thin: training batches; with markers: ${[...new Set(report.runs.map((run) => run.held_out))].join(" or ")} examples; no errors: at the axis’s lower end. Below: ${WORDS[state.quantity]} of ${state.layer}. ${cursor}`;
  $("heat-text").textContent = `log₁₀ of the ${WORDS[state.quantity]}, median over the probe inputs. Select a cell to move there; an empty cell is missing, zero or infinite.`;
  const inputs = Math.max(...report.runs.map((run) => run.layers[state.layer]?.inputs ?? 0));
  const weights = report.runs.map((run) => spectrum(run, state.layer, state.step)).filter((now) => now?.operator);
  const about = !weights.length ? "" : weights.every(isLinear) ? " The weights’ own singular values are the same: the layer is linear." : " Grey: the weights alone.";
  $("sorted-text").textContent = (inputs > 1 ? `Median and full range over ${inputs} probe inputs.` : "One probe input.") + about;
  const below = perRun((now) => (now.below > 0 ? `${format(100 * now.below)} %` : ""));
  const laws = new Set(report.runs.map((run) => run.layers[state.layer]?.law?.label).filter(Boolean));
  $("density-text").textContent = `All probe inputs together.${[...laws].map((label) => ` Dashed: the ${label}.`).join("")}${below ? ` Numerically zero, left of the axis: ${below}.` : ""}`;
  eigenCaption();
  nonnormalCaptions();
  phaseCaption();
}

function eigenCaption() {
  const shown = report.runs.map((run) => [run, spectrum(run, state.layer, state.step)]).filter(([, now]) => now?.eigenvalues);
  if (!shown.length) {
    const known = report.runs.map((run) => run.layers[state.layer]?.eigenvalues);
    const shape = report.runs.map((run) => run.layers[state.layer]?.shape).find((value) => value);
    if (shape && shape[0] !== shape[1]) standIn("eigen", `This Jacobian is ${shape.join(" × ")}: only a square one has eigenvalues.`);
    else if (known.some((found) => found && Object.keys(found).length)) standIn("eigen", nearestAnalysed(known, state.step));
    else standIn("eigen", `Eigenvalues come from the checkpoints:<br><code>${escape(report.analyze)}</code>`);
    return;
  }
  standIn("eigen", "");
  const inputs = shown[0][1].series.eigenvalue_inputs;
  $("eigen-text").textContent = `Dotted: the unit circle. ${inputs > 1 ? `${inputs} probe inputs.` : "One probe input."}`;
}

function heading() {
  const shape = report.runs.map((run) => run.layers[state.layer]?.shape).find((value) => value);
  $("focus-title").innerHTML = `${escape(state.layer)}${shape ? `<small>${shape.join(" × ")}</small>` : ""}`;
  $("focus-numbers").innerHTML = report.runs.map((run, r) => {
    const now = spectrum(run, state.layer, state.step);
    const name = report.runs.length > 1 ? `<span><span class="chip"></span>${escape(run.name)}</span>` : "";
    const when = now && now.step !== state.step ? `<span class="stale">(step ${now.step})</span>` : "";
    return `<div class="numbers run-${r % 6}" data-run="${escape(run.name)}">${name}${now ? numbers(now, ["sigma_max", "sigma_median", "sigma_min", "cond"]) + when : "<span>no spectrum yet</span>"}</div>`;
  }).join("");
}

function drawCards() {
  const shown = report.layers.map((layer) => report.axes[layer].log);
  const high = Math.max(...shown.map((range) => range[1]));
  const low = Math.max(Math.min(...shown.map((range) => range[0])), high - 3.5);
  const y = (value) => 50 - (46 * (Math.log10(Math.max(value, 10 ** (low - 1))) - low)) / (high - low);
  const quantities = ["sigma_max", "sigma_min", "cond"];
  for (const card of $("cards").children) {
    const layer = card.dataset.layer;
    card.setAttribute("aria-pressed", String(layer === state.layer));
    let paths = "", rows = "";
    report.runs.forEach((run, r) => {
      const now = spectrum(run, layer, state.step);
      if (!now) return;
      const last = now.index[now.index.length - 1];
      const points = Array.from(now.median, (value, i) => `${(200 * (now.index[i] - 1)) / Math.max(1, last - 1)} ${y(value).toFixed(2)}`);
      if (points.length === 1) points.push(`200 ${y(now.median[0]).toFixed(2)}`);
      if (!Number.isNaN(now.median[0])) paths += `<path class="run-${r % 6}" d="M${points.join("L")}"/>`;
      rows += `<span class="run-${r % 6}">${report.runs.length > 1 ? `<span class="chip" title="${escape(run.name)}"></span>` : ""}</span>`
        + quantities.map((quantity) => `<span>${format(now.value(quantity))}</span>`).join("");
    });
    card.querySelector("svg").innerHTML = `<line x1="0" x2="200" y1="${y(1)}" y2="${y(1)}"/>${paths}`;
    card.querySelector(".values").innerHTML = `<span></span>${quantities.map((quantity) => `<span class="head">${symbol(quantity)}</span>`).join("")}${rows}`;
  }
}

let waiting = false;
const changed = new Set();

// One redraw a frame, however fast the slider moves.
function refresh(...names) {
  names.forEach((name) => changed.add(name));
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    heading();
    captions();
    draw(...changed);
    changed.clear();
    drawCards();
    history.replaceState(null, "", `#step=${state.step}&layer=${encodeURIComponent(state.layer)}&measure=${state.quantity}`);
    document.body.dataset.step = state.step;
  });
}

function goTo(i) {
  state.i = Math.max(0, Math.min(report.steps.length - 1, i));
  state.step = report.steps[state.i];
  $("step").value = state.i;
  const last = report.steps[report.steps.length - 1];
  $("step").setAttribute("aria-valuetext", `step ${state.step} of ${last}`);
  $("step-output").innerHTML = `step ${state.step} <small>of ${last}</small>`;
  refresh(...Object.keys(FIGURES));
}

function choose(layer) {
  if (!report.layers.includes(layer)) return;
  state.layer = $("layer").value = layer;
  refresh(...Object.keys(FIGURES));
}

const nearest = (step) => report.steps.reduce((best, value, i) => (Math.abs(value - step) < Math.abs(report.steps[best] - step) ? i : best), 0);

let timer = 0;
function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => (state.i + 1 < report.steps.length ? goTo(state.i + 1) : play(false)), Math.max(120, Math.min(500, 8000 / report.steps.length))) : 0;
  const label = on ? "Pause" : "Play the steps";
  $("play").setAttribute("aria-pressed", String(on));
  $("play").setAttribute("aria-label", label);
  $("play").title = label;
  $("play-icon").setAttribute("d", on ? "M3.5 2.5h3.2v11H3.5zM9.3 2.5h3.2v11H9.3z" : "M4 2.5v11l9.5-5.5z");
  if (on && state.i === report.steps.length - 1) goTo(0);
}

async function save(name) {
  const figure = FIGURES[name](state, THEMES.light);
  const exported = {
    data: figure.data,
    layout: { ...figure.layout, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", showlegend: name !== "heat", title: { text: figure.title, x: 0.02, xanchor: "left", font: { size: 15 } },
      legend: { orientation: "h", y: -0.18, yanchor: "top" }, margin: { ...figure.layout.margin, t: name === "heat" ? 64 : 48, b: 60 } },
  };
  const [width, height] = { eigen: [520, 580], pseudo: [620, 620], phase: [620, 520], training: [720, 600], heat: [820, heatHeight(820) + 60] }[name] ?? [720, 460];
  const url = await Plotly.toImage(exported, { format: "svg", width, height });
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name}-${name === "heat" ? state.quantity : name === "phase" ? "mean_field" : state.layer.replace(/[^\w.-]+/g, "_")}-step-${state.step}.svg`;
  link.click();
  document.body.dataset.saved = link.download;
}

function connect() {
  $("step").max = report.steps.length - 1;
  $("step").addEventListener("input", () => { play(false); goTo(Number($("step").value)); });
  $("play").addEventListener("click", () => play(!timer));
  $("layer").append(...report.layers.map((layer) => new Option(layer, layer)));
  $("layer").addEventListener("change", () => choose($("layer").value));
  $("quantity").append(...report.quantities.map((quantity) => new Option(WORDS[quantity], quantity, false, quantity === state.quantity)));
  $("quantity").addEventListener("change", () => { state.quantity = $("quantity").value; refresh("training", "heat"); });
  for (const layer of report.layers) {
    const card = document.createElement("button");
    card.type = "button";
    card.className = "card";
    card.dataset.layer = layer;
    card.innerHTML = `<strong>${escape(layer)}</strong><svg viewBox="0 0 200 52" preserveAspectRatio="none" aria-hidden="true"></svg><span class="values"></span>`;
    card.addEventListener("click", () => choose(layer));
    $("cards").append(card);
  }
  for (const button of document.querySelectorAll("[data-export]")) {
    button.setAttribute("aria-label", `Save the figure ${button.dataset.export} as SVG`);
    button.addEventListener("click", () => save(button.dataset.export));
  }
  $("training").on("plotly_click", ({ points }) => { play(false); goTo(nearest(points[0].x)); });
  $("heat").on("plotly_click", ({ points }) => { play(false); choose(points[0].y); goTo(nearest(points[0].x)); });
  darkness.addEventListener("change", () => refresh(...Object.keys(FIGURES)));
  addEventListener("resize", () => refresh("heat")); // side by side or stacked, by the width
}

// The layer shown first: of those with eigenvalues the worst conditioned at the last step, else the last.
function mostTelling() {
  const last = report.steps[report.steps.length - 1];
  let [best, worst] = [report.layers[report.layers.length - 1], 0];
  for (const layer of report.layers) {
    for (const run of report.runs) {
      const now = spectrum(run, layer, last);
      if (now?.eigenvalues && Number.isFinite(now.value("cond")) && now.value("cond") > worst) [best, worst] = [layer, now.value("cond")];
    }
  }
  return best;
}

async function start() {
  await loadReport();
  $("loading").remove();
  if (!report.steps.length) { document.body.dataset.ready = "empty"; return; }
  $("figures").hidden = $("controls").hidden = false;
  const asked = new URLSearchParams(location.hash.slice(1));
  state.layer = report.layers.includes(asked.get("layer")) ? asked.get("layer") : mostTelling();
  if (report.quantities.includes(asked.get("measure"))) state.quantity = asked.get("measure");
  state.i = asked.has("step") ? nearest(Number(asked.get("step"))) : report.steps.length - 1;
  state.step = report.steps[state.i];
  nonnormalCaptions();
  phaseCaption();
  draw(...Object.keys(FIGURES));
  connect();
  choose(state.layer);
  goTo(state.i);
  document.body.dataset.ready = "figures";
}

start().catch((error) => {
  $("loading")?.replaceChildren(`The figures could not be drawn (${error.message}). A browser of 2023 or newer is needed.`);
  throw error;
});
