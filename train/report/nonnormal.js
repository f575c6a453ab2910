// Pseudospectra with the numerical range, and transient growth under its Kreiss bounds, where a checkpoint was analysed.

// What the analysis found of one run's layer at this step; null where there is nothing.
function nonnormal(run, layer, step) {
  const one = analysedAt(run.layers[layer]?.nonnormal, step);
  if (!one) return null;
  const side = Math.round(Math.sqrt(one.sigma[1]));
  return {
    ...one, side, sigma: view(one.sigma), transient: view(one.transient),
    x: Array.from({ length: side }, (_, i) => one.box[0] + (i * (one.box[1] - one.box[0])) / (side - 1)),
    y: Array.from({ length: side }, (_, i) => one.box[2] + (i * (one.box[3] - one.box[2])) / (side - 1)),
    boundary: halves(one.range),
  };
}

const nonnormalRuns = (state) => report.runs.map((run, r) => [run, r, nonnormal(run, state.layer, state.step)]).filter(([, , now]) => now);

function pseudo(state, theme) {
  const data = [];
  const shown = nonnormalRuns(state);
  const several = report.runs.length > 1;
  for (const [run, r, now] of shown) {
    const color = theme.runs[r % 6];
    const grid = Array.from({ length: now.side }, (_, k) => now.sigma.subarray(k * now.side, (k + 1) * now.side));
    const low = Math.min(...now.sigma), high = Math.max(...now.sigma);
    const size = [0.25, 0.5, 1, 2, 4].find((width) => (high - low) / width <= 8) ?? 8;
    data.push({
      type: "contour", x: now.x, y: now.y, z: grid, showscale: false, name: run.name, connectgaps: false,
      autocontour: false, ncontours: 10, hovertemplate: `σ<sub>min</sub>(<i>z</i>I − J) = 10<sup>%{z:.2f}</sup> at %{x:.3g} + %{y:.3g}i<extra>${escape(run.name)}</extra>`,
      contours: { start: Math.ceil(low / size) * size, end: Math.floor(high / size) * size, size, coloring: several ? "none" : "heatmap", showlabels: true, labelfont: { size: 10, color: theme.ink } },
      line: { color, width: 1.1 }, colorscale: [[0, fade(color, 0.75)], [1, fade(color, 0.02)]],
    });
    data.push({
      x: now.boundary.x, y: now.boundary.y, type: "scatter", mode: "lines", name: `${several ? `${run.name}: ` : ""}numerical range`,
      line: { color: several ? color : theme.runs[1], width: 1.6, dash: "dash" }, hoverinfo: "skip",
    });
    const cloud = spectrum(run, state.layer, state.step)?.eigenvalues;
    if (cloud) {
      const count = Math.min(cloud.x.length, run.layers[state.layer].count); // of the first probe input
      data.push({
        x: cloud.x.subarray(0, count), y: cloud.y.subarray(0, count), type: "scatter", mode: "markers", name: `${several ? `${run.name}: ` : ""}eigenvalues`,
        marker: { color: several ? color : theme.ink, size: count > 200 ? 3 : 5, symbol: several ? markers[r % 6] : "circle" },
        hovertemplate: `λ = %{x:.3g} + %{y:.3g}i<extra>${escape(run.name)}</extra>`,
      });
    }
  }
  const box = [0, 1, 2, 3].map((i) => (i % 2 ? Math.max : Math.min)(...shown.map(([, , now]) => now.box[i])));
  return {
    data,
    layout: layout(theme, {
      xaxis: axis(theme, "Re <i>z</i>", { range: shown.length ? box.slice(0, 2) : [-1, 1], constrain: "domain", nticks: 7, showgrid: false }),
      yaxis: axis(theme, "Im <i>z</i>", { range: shown.length ? box.slice(2) : [-1, 1], scaleanchor: "x", constrain: "domain", nticks: 7, showgrid: false }),
      shapes: [{ type: "circle", x0: -1, x1: 1, y0: -1, y1: 1, line: { color: theme.ink, width: 1.2, dash: "dot" } }],
    }),
    title: `Pseudospectra of ${state.layer} at step ${state.step}`,
  };
}

function transient(state, theme) {
  const data = [], shapes = [];
  const shown = nonnormalRuns(state);
  let high = 1, low = 1, last = 1;
  for (const [run, r, now] of shown) {
    const color = theme.runs[r % 6];
    last = Math.max(last, now.transient.length - 1);
    data.push({
      x: Array.from(now.transient.keys()), y: Array.from(now.transient, (value) => (value > 0 ? value : null)), type: "scatter", mode: "lines+markers", name: run.name,
      line: { color, width: 2, dash: dashes[r % 6] }, marker: { size: 3.5, symbol: markers[r % 6] },
      hovertemplate: `‖J<sup>%{x}</sup>‖ ${now.projected ? "≥" : "="} %{y:.4g}<extra>${escape(run.name)}</extra>`,
    });
    for (const value of now.transient) { high = Math.max(high, value); if (value > 0) low = Math.min(low, value); }
    for (const [bound, dash] of [[now.lower, "dash"], [now.upper, "dot"]]) {
      if (bound === null) continue;
      high = Math.max(high, bound);
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: bound, y1: bound, line: { color, width: 1.2, dash } });
    }
  }
  return {
    data,
    layout: layout(theme, {
      xaxis: axis(theme, "power <i>k</i>", { range: [-0.02 * last, 1.02 * last] }),
      yaxis: axis(theme, "‖J<sup><i>k</i></sup>‖", logRange(Math.log10(Math.max(low, high * 1e-8)) - 0.1, Math.log10(high) + 0.15)),
      shapes,
    }),
    title: `Transient growth of ${state.layer} at step ${state.step}`,
  };
}

function nonnormalCaptions() {
  const shown = nonnormalRuns(state);
  const found = report.runs.map((run) => run.layers[state.layer]?.nonnormal);
  $("dynamics").hidden = !found.some((one) => one && Object.keys(one).length);
  for (const name of ["pseudo", "transient"]) standIn(name, shown.length ? "" : nearestAnalysed(found, state.step));
  if (!shown.length) return;
  const each = (words) => shown.map(([run, , now]) => `${report.runs.length > 1 ? `${run.name}: ` : ""}${words(now)}`).join("; ");
  const inside = shown.some(([, , now]) => now.projected) ? " An Arnoldi projection: contours, numerical range, curve and bound are approximations from inside." : "";
  $("pseudo-text").textContent = `At the first probe input. Numbers on contours: log₁₀ ε; a perturbation of norm ε moves eigenvalues anywhere inside. Dashed: the numerical range; dotted: the unit circle.${inside}`;
  const scaled = each((now) => (now.scale > 1 ? `J stands for J/ρ, ρ = ${format(now.scale)}` : "J as it is, ρ ≤ 1"));
  const kreiss = each((now) => `${now.lower === null ? "infinite" : `≥ ${format(now.lower)}`}${now.upper === null ? "" : `, sup ‖Jᵏ‖ ≤ e n K = ${format(now.upper)}`}`);
  $("transient-text").textContent = `${scaled}. Dashed: the Kreiss constant K (${kreiss}), which the curve must reach somewhere${shown.some(([, , now]) => now.upper !== null) ? "; dotted: e n K, above all of it" : ""}.`;
}

Object.assign(FIGURES, { pseudo, transient });
