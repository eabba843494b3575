"use strict";
// Draws the charts in the colours of the page; again when the page turns dark or light, or a filter changes.
const { charts, points } = JSON.parse(document.getElementById("data").textContent);
const filter = document.getElementById("filter");
const touch = matchMedia("(pointer: coarse)");
const narrow = matchMedia("(max-width: 40rem)");

function layoutOf(chart, small) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const family = css.getPropertyValue("--sans");
  const axis = {
    color: colour("--text"), gridcolor: colour("--grid"), linecolor: colour("--line"), showline: true,
    zeroline: false, automargin: true, exponentformat: "SI", minexponent: 6,
  };
  const withTitle = (given) => ({ ...axis, ...given, title: { ...given.title, standoff: small ? 6 : 12 } });
  return {
    showlegend: true,
    ...chart.layout,
    xaxis: withTitle(chart.layout.xaxis),
    yaxis: withTitle(chart.layout.yaxis),
    font: { family, size: small ? 11.5 : 13, color: colour("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: colour("--page"), bordercolor: colour("--quiet"), align: "left", font: { family, color: colour("--text") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--text") },
    hovermode: "closest",
    dragmode: touch.matches ? false : "zoom",
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
    margin: small ? { l: 44, r: 6, t: 8, b: 36 } : { l: 56, r: 8, t: 36, b: 48 },
    uirevision: "same", // what was chosen in the legend stays chosen
  };
}

function chosen() {
  const form = filter ? new FormData(filter) : new Map();
  const seed = form.get("seed");
  return { strategy: form.get("strategy") || null, seed: seed ? Number(seed) : null, full: form.has("full") };
}

// The trace as the filters leave it; `Meta` in charts.py says what its `meta` means.
function filtered(trace, { strategy, seed, full }) {
  const meta = trace.meta ?? {};
  const visible =
    (strategy === null || meta.strategy === undefined || meta.strategy === strategy) &&
    (seed === null || meta.seed === undefined || meta.seed === seed) &&
    !(meta.together && seed !== null) && !(meta.alone && seed === null) && !(meta.single && strategy === null);
  if (!meta.points) return { ...trace, visible };
  const known = points[meta.points];
  const kept = [...known.seed.keys()].filter(
    (place) => (seed === null || known.seed[place] === seed) && (!full || known.full[place]));
  const of = (values) => kept.map((place) => values[place]);
  return { ...trace, visible, x: of(trace.x), y: of(trace.y), text: of(known.text) };
}

function draw() {
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch.matches || narrow.matches ? false : "hover",
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };
  const choice = chosen();
  for (const [name, chart] of Object.entries(charts)) {
    const element = document.getElementById(name);
    const small = element.classList.contains("small");
    const traces = chart.data.map((trace) => filtered(trace, choice));
    Plotly.react(element, traces, layoutOf(chart, small), small ? { ...config, displayModeBar: false } : config);
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
if (filter) filter.addEventListener("change", draw);
for (const details of document.querySelectorAll("[data-details-of]"))
  document.getElementById(details.dataset.detailsOf).on("plotly_click", ({ points: [point] }) => {
    if (point.text) details.textContent = `${point.data.name}, ${point.text.replaceAll("<br>", " ")}`;
  });

// A link to something that is folded away opens what it lies in.
function unfold() {
  const folded = document.getElementById(location.hash.slice(1))?.closest("details");
  if (!folded || folded.open) return;
  folded.open = true;
  document.getElementById(location.hash.slice(1)).scrollIntoView();
}
unfold();
addEventListener("hashchange", unfold);
