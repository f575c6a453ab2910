// Each figure is a pure function from the page's state and a theme to Plotly's {data, layout}; exports use the light theme.

const THEMES = {
  light: { ink: "#17202b", soft: "#556070", grid: "#dfe3e9", runs: ["#0072b2", "#d55e00", "#00835f", "#a8538a", "#8a6d00", "#3a3f8f"] },
  dark: { ink: "#e7ebf0", soft: "#a3adba", grid: "#323b47", runs: ["#56b4e9", "#f0923b", "#2fc59b", "#d98bbd", "#e3c84a", "#a5a9f0"] },
};
const FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';
const dashes = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const markers = ["circle", "diamond-open", "square-open", "triangle-up-open", "cross", "x"];

const fade = (color, alpha) => color + Math.round(255 * alpha).toString(16).padStart(2, "0");

function axis(theme, title, more = {}) {
  return {
    title: { text: title, standoff: 6, font: { size: 12.5 } }, gridcolor: theme.grid, zeroline: false, linecolor: theme.soft,
    showline: true, ticks: "outside", ticklen: 4, tickcolor: theme.soft, exponentformat: "power", automargin: true, ...more,
  };
}

function layout(theme, more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: FONT, size: 12, color: theme.ink },
    margin: { l: 52, r: 12, t: 10, b: 42 }, showlegend: false, hovermode: "closest", dragmode: false,
    hoverlabel: { font: { family: FONT, size: 12 } }, ...more,
  };
}

// Decades as powers of ten; within little more than one decade 1–2–5 or finer steps as plain numbers.
function logRange(low, high) {
  const span = high - low;
  let values = [];
  if (span > 1.4) {
    const every = Math.ceil(span / 7);
    for (let power = Math.ceil(low); power <= high; power++) if (power % every === 0) values.push(10 ** power);
  } else {
    const rough = (10 ** high - 10 ** low) / 4;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const stride = unit * [1, 2, 5, 10].find((factor) => factor * unit >= 0.7 * rough);
    if (span > 0.6) values = [1, 2, 5].flatMap((digit) => [-1, 0, 1].map((shift) => digit * 10 ** (Math.floor(low) + 1 + shift)));
    else for (let i = Math.ceil(10 ** low / stride); i * stride <= 10 ** high; i++) values.push(i * stride);
    values = values.filter((value) => value >= 10 ** low && value <= 10 ** high);
  }
  const text = values.map((value) => {
    const power = Math.round(Math.log10(value));
    return span > 1.4 && Math.abs(power) > 2 ? `10<sup>${String(power).replace("-", "−")}</sup>` : format(Number(value.toPrecision(6)));
  });
  return { type: "log", range: [low, high], tickmode: "array", tickvals: values, ticktext: text };
}

const marker = (step, theme, more) => ({
  type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: 1, line: { color: theme.ink, width: 1.2, dash: "dot" }, ...more,
});

// The error rates have a logarithmic axis: none at all is drawn as half of the least one that is seen.
function leastError() {
  const errors = report.runs.flatMap((run) => ["train", "eval"].flatMap((kind) => {
    const curve = run.curves[`${kind}_accuracy`];
    return curve ? [...view(curve[1])].map((value) => 1 - value).filter((value) => value > 1e-6) : [];
  }));
  return errors.length ? 0.5 * Math.min(...errors) : 0.5;
}

function training(state, theme) {
  const data = [];
  const panels = [["loss", "loss", "y"], ["accuracy", "error rate", "y2"], [state.quantity, symbol(state.quantity), "y3"]];
  const least = leastError();
  report.runs.forEach((run, r) => {
    const color = theme.runs[r % 6];
    for (const [quantity, , yaxis] of panels.slice(0, 2)) {
      for (const kind of ["train", "eval"]) {
        const curve = run.curves[`${kind}_${quantity}`];
        if (!curve) continue;
        const held = kind === "eval";
        const values = view(curve[1]);
        data.push({
          x: view(curve[0]), y: quantity === "accuracy" ? values.map((value) => Math.max(1 - value, least)) : values, customdata: values, yaxis, type: "scatter", mode: held ? "lines+markers" : "lines",
          line: { color: held ? color : fade(color, 0.5), width: held ? 2 : 1, dash: held ? dashes[r % 6] : "solid" },
          marker: { size: 5, symbol: markers[r % 6], color }, name: `${run.name}, ${held ? run.held_out : "training batch"}`,
          showlegend: quantity === "loss" || !run.curves[`${kind}_loss`],
          hovertemplate: `${quantity} %{customdata:.4g} at step %{x}<extra>${escape(run.name)}, ${held ? run.held_out : "training"}</extra>`,
        });
      }
    }
    const series = run.layers[state.layer];
    if (series) {
      data.push({
        x: series.steps, y: view(series.numbers[state.quantity]), yaxis: "y3", type: "scatter", mode: "lines+markers", showlegend: false,
        line: { color, width: 2, dash: dashes[r % 6] }, marker: { size: 5, symbol: markers[r % 6], color }, name: run.name,
        hovertemplate: `%{y:.4g} at step %{x}<extra>${escape(run.name)}</extra>`,
      });
    }
  });
  const scale = (yaxis) => {
    const values = data.filter((trace) => trace.yaxis === yaxis).flatMap((trace) => [...trace.y]).filter(Number.isFinite);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    if (!values.length) return { range: [0, 1], showticklabels: false };
    if (!(low > 0) || (yaxis !== "y3" && high / low < 20)) return {};
    const margin = Math.max(0.03, 0.06 * Math.log10(high / low));
    return logRange(Math.log10(low) - margin, Math.log10(high) + margin);
  };
  const domains = [[0.7, 1], [0.4, 0.64], [0, 0.34]];
  const axes = {};
  panels.forEach(([, title, yaxis], i) => {
    axes[yaxis.replace("y", "yaxis")] = axis(theme, title, { domain: domains[i], nticks: 5, ...scale(yaxis), anchor: "x" });
  });
  return {
    data,
    layout: layout(theme, { ...axes, xaxis: axis(theme, "step (updates done)", { anchor: "y3" }), shapes: [marker(state.step, theme)], hovermode: "x" }),
    title: `Training, and ${WORDS[state.quantity]} of ${state.layer}`,
  };
}

// One map a run: side by side on wide screens, stacked on narrow ones.
const isStacked = (width) => width < 200 + 150 * report.runs.length;
const heatHeight = (width) => {
  const one = Math.max(15 * report.layers.length, 60) + 70;
  return Math.max(350, isStacked(width) ? one * report.runs.length : one);
};

function heat(state, theme, width = 720) {
  const names = [...report.layers].reverse();
  const runs = report.runs;
  const stacked = isStacked(width);
  const data = [], annotations = [], shapes = [];
  const axes = {};
  let [low, high] = [Infinity, -Infinity];
  const steps = runs.map((run) => report.steps.filter((step) => names.some((name) => run.layers[name]?.steps.includes(step))));
  const grids = runs.map((run, r) => names.map((name) => {
    const series = run.layers[name];
    const at = series ? new Map(series.steps.map((step, i) => [step, view(series.numbers[state.quantity])[i]])) : new Map();
    return steps[r].map((step) => {
      const value = at.has(step) ? Math.log10(at.get(step)) : NaN;
      if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
      return Number.isFinite(value) ? value : null;
    });
  }));
  runs.forEach((run, r) => {
    const id = r ? r + 1 : "";
    const gap = stacked ? 0.13 : 0.07;
    const from = (stacked ? runs.length - 1 - r : r) / runs.length;
    const domain = [from + (from ? gap / 2 : 0), from + 1 / runs.length - (from + 1 / runs.length < 0.999 ? gap / 2 : 0)];
    const first = r === 0 || stacked;
    axes[`xaxis${id}`] = axis(theme, stacked && r < runs.length - 1 ? "" : "step", { anchor: `y${id}`, showgrid: false, tickangle: 0, nticks: 6, ...(stacked ? {} : { domain }) });
    axes[`yaxis${id}`] = axis(theme, "", {
      anchor: `x${id}`, type: "category", showgrid: false, ticks: "", showticklabels: first, tickfont: { size: names.length > 16 ? 10 : 11 },
      tickmode: "array", tickvals: names, ticktext: names, ...(stacked ? { domain } : {}),
    });
    data.push({
      type: "heatmap", x: steps[r], y: names, z: grids[r], xaxis: `x${id}`, yaxis: `y${id}`, colorscale: "Cividis",
      zmin: Number.isFinite(low) ? low : 0, zmax: Number.isFinite(low) ? Math.max(high, low + 1e-3) : 1, xgap: steps[r].length > 40 ? 0 : 1, ygap: 1,
      showscale: r === 0, name: run.name, hoverongaps: false,
      colorbar: { title: { text: `log₁₀ ${symbol(state.quantity)}`, side: "right" }, thickness: 12, outlinewidth: 0, tickcolor: theme.soft, nticks: 6 },
      hovertemplate: `%{y}<br>step %{x}<br>log₁₀ ${symbol(state.quantity)} = %{z:.3f}<extra>${escape(run.name)}</extra>`,
    });
    annotations.push({
      text: escape(run.name), showarrow: false, xref: `x${id} domain`, yref: `y${id} domain`, x: 0, y: 1, xanchor: "left", yanchor: "bottom",
      font: { color: theme.runs[r % 6], size: 12.5, weight: 600 },
    });
    const at = names.indexOf(state.layer);
    shapes.push(
      { ...marker(state.step, theme, { xref: `x${id}`, yref: `y${id} domain` }), line: { color: "#ffffff", width: 3 } },
      { ...marker(state.step, theme, { xref: `x${id}`, yref: `y${id} domain` }), line: { color: "#111111", width: 1.2 } },
      { type: "rect", xref: `x${id} domain`, yref: `y${id}`, x0: 0, x1: 1, y0: at - 0.5, y1: at + 0.5, line: { color: theme.ink, width: 1.6 } },
    );
  });
  return {
    data,
    layout: layout(theme, { ...axes, annotations, shapes, margin: { l: 40, r: 8, t: 26, b: 42 } }),
    title: `log₁₀ ${WORDS[state.quantity]}, layer by step`,
  };
}

// Whether the Jacobian is the layer's own map at every input, so that its weights' curve lies under it.
function isLinear(now) {
  const top = now.operator.y[0];
  const at = new Map(Array.from(now.operator.x, (index, i) => [index, now.operator.y[i]]));
  return now.index.every((index, i) =>
    Math.max(now.high[i] - now.low[i], Math.abs(now.median[i] - (at.get(index) ?? now.median[i]))) <= 1e-3 * top);
}

function sorted(state, theme) {
  const data = [];
  const [low, high] = report.axes[state.layer].log;
  const floor = (values) => Array.from(values, (value) => (Number.isNaN(value) ? null : Math.max(value, 10 ** (low - 1))));
  let count = 1;
  report.runs.forEach((run, r) => {
    const now = spectrum(run, state.layer, state.step);
    if (!now) return;
    const color = theme.runs[r % 6];
    count = Math.max(count, now.series.count);
    const line = { x: now.index, type: "scatter", mode: "lines" };
    if (now.series.inputs > 1) {
      data.push(
        { ...line, y: floor(now.low), line: { width: 0 }, hoverinfo: "skip", showlegend: false },
        { ...line, y: floor(now.high), line: { width: 0 }, fill: "tonexty", fillcolor: fade(color, 0.2), hoverinfo: "skip", showlegend: false },
      );
    }
    if (now.operator && !isLinear(now)) {
      data.push({
        ...line, x: now.operator.x, y: floor(now.operator.y), line: { color: theme.soft, width: 1.2, dash: dashes[r % 6] }, name: `${named(run, now)}: weights`,
        hovertemplate: `weights: σ<sub>%{x}</sub> = %{y:.4g}<extra>${escape(run.name)}</extra>`,
      });
    }
    data.push({
      ...line, y: floor(now.median), line: { color, width: 2, dash: dashes[r % 6] }, name: named(run, now),
      ...(count <= 40 ? { mode: "lines+markers", marker: { size: 5, symbol: markers[r % 6] } } : {}),
      hovertemplate: `σ<sub>%{x}</sub> = %{y:.4g}<extra>${escape(run.name)}</extra>`,
    });
  });
  const pad = Math.max(0.5, 0.02 * count);
  return {
    data,
    layout: layout(theme, { xaxis: axis(theme, "index <i>i</i>", { range: [1 - pad, count + pad] }), yaxis: axis(theme, "singular value σ<sub><i>i</i></sub>", logRange(low, high)) }),
    title: `Singular values of ${state.layer} at step ${state.step}`,
  };
}

function density(state, theme) {
  const data = [];
  const [low, high] = report.axes[state.layer].log;
  let top = 0;
  report.runs.forEach((run, r) => {
    const now = spectrum(run, state.layer, state.step);
    if (!now) return;
    top = Math.max(top, ...now.histogram);
    const color = theme.runs[r % 6];
    const bins = now.histogram.length;
    const x = Array.from({ length: bins }, (_, i) => 10 ** (low + ((i + 0.5) * (high - low)) / bins));
    data.push({
      x, y: now.histogram, type: "scatter", mode: "lines", fill: "tozeroy", fillcolor: fade(color, 0.22), name: named(run, now),
      line: { color, width: 1.6, shape: "hvh" }, hovertemplate: `%{y:.3g} per decade at σ = %{x:.3g}<extra>${escape(run.name)}</extra>`,
    });
    if (now.law) {
      data.push({
        x: Array.from(now.law.curve.x, (value) => 10 ** (value + now.law.shift)), y: now.law.curve.y, type: "scatter", mode: "lines",
        line: { color, width: 1.8, dash: "dash" }, name: `${now.law.label}${report.runs.length > 1 ? `, ${run.name}` : ""}`,
        hovertemplate: `%{y:.3g} per decade<extra>${escape(now.law.label)}</extra>`,
      });
    }
  });
  return {
    data,
    layout: layout(theme, {
      xaxis: axis(theme, "singular value σ", logRange(low, high)),
      yaxis: axis(theme, "density (per decade of σ)", { range: [0, 1.08 * (top || 1)], nticks: 6 }),
    }),
    title: `Density of the singular values of ${state.layer} at step ${state.step}`,
  };
}

function eigen(state, theme) {
  const data = [];
  const radius = report.axes[state.layer].radius;
  report.runs.forEach((run, r) => {
    const now = spectrum(run, state.layer, state.step);
    if (!now?.eigenvalues) return;
    data.push({
      x: now.eigenvalues.x, y: now.eigenvalues.y, type: "scatter", mode: "markers", name: named(run, now),
      marker: { color: theme.runs[r % 6], size: now.eigenvalues.x.length > 400 ? 3.5 : 6, symbol: markers[r % 6], opacity: 0.65, line: { width: now.eigenvalues.x.length > 400 ? 0.8 : 1.2, color: theme.runs[r % 6] } },
      hovertemplate: `λ = %{x:.3g} + %{y:.3g}i<extra>${escape(run.name)}</extra>`,
    });
  });
  return {
    data,
    layout: layout(theme, {
      xaxis: axis(theme, "Re λ", { range: [-radius, radius], constrain: "domain", nticks: 7 }),
      yaxis: axis(theme, "Im λ", { range: [-radius, radius], scaleanchor: "x", constrain: "domain", nticks: 7 }),
      shapes: [
        { type: "circle", x0: -1, x1: 1, y0: -1, y1: 1, line: { color: theme.ink, width: 1.2, dash: "dot" } },
        { type: "line", x0: -radius, x1: radius, y0: 0, y1: 0, line: { color: theme.grid, width: 1 }, layer: "below" },
        { type: "line", x0: 0, x1: 0, y0: -radius, y1: radius, line: { color: theme.grid, width: 1 }, layer: "below" },
      ],
    }),
    title: `Eigenvalues of ${state.layer} at step ${state.step}`,
  };
}

const FIGURES = { training, heat, sorted, density, eigen };
