// The phase diagram of mean field with the runs' hidden layers on it, where checkpoints of such networks were analysed.

// One run's points at this step; null where it has none.
function meanField(run, step) {
  const known = run.mean_field && report.phase?.phases[run.mean_field.activation];
  if (!known) return null;
  const pair = analysedAt(run.mean_field.steps, step);
  if (!pair) return null;
  const { x: weight, y: bias } = halves(pair);
  return { activation: run.mean_field.activation, layers: run.mean_field.layers, weight, bias };
}

const meanFieldRuns = (state) => report.runs.map((run, r) => [run, r, meanField(run, state.step)]).filter(([, , now]) => now);

function phase(state, theme) {
  const data = [];
  const shown = meanFieldRuns(state);
  const activations = [...new Set(shown.map(([, , now]) => now.activation))];
  const { x = [0, 1], y = [0, 1], side = 2, phases = {} } = report.phase ?? {};
  const spread = ([low, high]) => Array.from({ length: side }, (_, i) => low + (i * (high - low)) / (side - 1));
  if (activations.length === 1) { // the colours are of one activation
    const chi = view(phases[activations[0]].chi);
    const reach = Math.max(0.02, ...Array.from(chi, Math.abs).filter(Number.isFinite));
    data.push({
      type: "heatmap", x: spread(x), y: spread(y), z: Array.from({ length: side }, (_, k) => Array.from(chi.subarray(k * side, (k + 1) * side), (value) => (Number.isFinite(value) ? value : null))),
      zmin: -reach, zmax: reach, zsmooth: "best", hoverongaps: false, showlegend: false, name: "χ₁", opacity: 0.75,
      colorscale: [[0, "#4393c3"], [0.5, theme.grid], [1, "#d6604d"]],
      colorbar: { title: { text: "log₁₀ χ<sub>1</sub>", side: "right" }, thickness: 12, outlinewidth: 0, tickcolor: theme.soft, nticks: 6 },
      hovertemplate: "σ<sub>w</sub>² = %{x:.4g}, σ<sub>b</sub>² = %{y:.3g}<br>log₁₀ χ<sub>1</sub> = %{z:.3f}<extra></extra>",
    });
  }
  activations.forEach((name, i) => {
    const line = view(phases[name].line), half = line.length / 2;
    data.push({
      x: line.subarray(0, half), y: line.subarray(half), type: "scatter", mode: half > 1 ? "lines" : "markers", name: `critical line of ${name}`, connectgaps: false, cliponaxis: half > 1,
      marker: { color: theme.ink, size: 11, symbol: "x-thin", line: { color: theme.ink, width: 2.5 } },
      line: { color: theme.ink, width: 2, dash: dashes[i % 6] }, hovertemplate: `critical, ${escape(name)}<extra></extra>`,
    });
  });
  for (const [run, r, now] of shown) {
    const color = theme.runs[r % 6];
    if (now.weight.length > 2) {
      data.push({
        x: now.weight.subarray(1), y: now.bias.subarray(1), type: "scatter", mode: "markers", name: `${run.name}: layers`, cliponaxis: false,
        marker: { color: fade(color, 0.55), size: 4.5, symbol: "circle" }, hovertemplate: `a layer: σ<sub>w</sub>² = %{x:.4g}, σ<sub>b</sub>² = %{y:.3g}<extra>${escape(run.name)}</extra>`,
      });
    }
    data.push({
      x: [now.weight[0]], y: [now.bias[0]], type: "scatter", mode: "markers", name: run.name, cliponaxis: false,
      marker: { color, size: 13, symbol: ["circle", "diamond", "square", "triangle-up", "cross", "x"][r % 6], line: { color: theme.ink, width: 1.4 } },
      hovertemplate: `σ<sub>w</sub>² = %{x:.4g}, σ<sub>b</sub>² = %{y:.3g}<extra>${escape(run.name)}, ${escape(now.activation)}</extra>`,
    });
  }
  return {
    data,
    layout: layout(theme, {
      xaxis: axis(theme, "σ<sub>w</sub>²", { range: x, nticks: 7, showgrid: false }),
      yaxis: axis(theme, "σ<sub>b</sub>²", { range: y, nticks: 6, showgrid: false }),
    }),
    title: `Mean field of ${activations.join(" and ")} at step ${state.step}`,
  };
}

function phaseCaption() {
  const shown = meanFieldRuns(state);
  $("mean-field").hidden = !report.runs.some((run) => run.mean_field && report.phase?.phases[run.mean_field.activation]);
  standIn("phase", shown.length ? "" : nearestAnalysed(report.runs.map((run) => run.mean_field?.steps), state.step));
  if (!shown.length) return;
  const several = report.runs.length > 1;
  const each = shown.map(([run, , now]) => `${several ? `${escape(run.name)}: ` : ""}${escape(now.activation)}, σ<sub>w</sub>² = ${format(now.weight[0])}, σ<sub>b</sub>² = ${format(now.bias[0])}${now.layers > 1 ? `, the mean over ${now.layers} hidden layers` : ""}`);
  const one = new Set(shown.map(([, , now]) => now.activation)).size === 1;
  const colours = one ? "Blue: ordered, gradients vanish with depth; red: chaotic, they explode; no colour: lengths grow without bound. " : "";
  $("phase-text").innerHTML = `${each.join("; ")}. ${colours}Line, or cross: critical, χ<sub>1</sub> = 1. Theory is of independent weights of those variances and of wide layers: it holds at initialisation, and training leaves it.`;
}

Object.assign(FIGURES, { phase });
