"use strict";
// Draws the charts in the colours of the page, and again when the page turns dark or light.
const { charts, texts } = JSON.parse(document.getElementById("data").textContent);
for (const chart of Object.values(charts))
  for (const trace of chart.data)
    if (trace.meta) trace.text = texts[trace.meta];

const touch = matchMedia("(pointer: coarse)");
const narrow = matchMedia("(max-width: 40rem)");

function layoutOf(chart) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const family = css.getPropertyValue("--sans");
  const axis = {
    color: colour("--text"), gridcolor: colour("--grid"), linecolor: colour("--line"), showline: true,
    zeroline: false, automargin: true, exponentformat: "SI", minexponent: 6,
  };
  const withTitle = (given) => ({ ...axis, ...given, title: { ...given.title, standoff: 12 } });
  return {
    ...chart.layout,
    xaxis: withTitle(chart.layout.xaxis),
    yaxis: withTitle(chart.layout.yaxis),
    font: { family, size: 13, color: colour("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: colour("--page"), bordercolor: colour("--quiet"), align: "left", font: { family, color: colour("--text") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--text") },
    hovermode: "closest",
    dragmode: touch.matches ? false : "zoom",
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
    margin: { l: 56, r: 8, t: 36, b: 48 },
    showlegend: true,
  };
}

function draw() {
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch.matches || narrow.matches ? false : "hover",
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };
  for (const [name, chart] of Object.entries(charts)) Plotly.react(name, chart.data, layoutOf(chart), config);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
