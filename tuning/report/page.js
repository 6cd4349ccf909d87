"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  // Colours in figures are names of CSS properties, so that they follow a light, a dark or a printed page.
  const coloured = (value, colours) => {
    if (typeof value === "string") return value.startsWith("--") ? colours.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((item) => coloured(item, colours));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, colours)]));
  };

  const axis = { gridcolor: "--grid", zerolinecolor: "--grid", linecolor: "--rung", tickcolor: "--rung", zeroline: false, automargin: true };
  const layout = (own) => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 13, color: "--text" },
    hoverlabel: { bgcolor: "--card", bordercolor: "--rung", font: { color: "--text" } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls
    ...own,
    margin: { l: 56, r: 14, t: 20, b: 56, ...own.margin },
    xaxis: { ...axis, ...own.xaxis },
    yaxis: { ...axis, ...own.yaxis },
  });
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

  const draw = (figure) => {
    const { data, layout: own } = coloured({ data: figure.data, layout: layout(figure.layout) }, getComputedStyle(root));
    Plotly.react(figure.name, data, own, config);
  };
  const drawAll = () => figures.forEach(draw);
  const drawOneByOne = async () => { // the page can be read and scrolled meanwhile
    for (const figure of figures) {
      draw(figure);
      await new Promise((resolve) => { setTimeout(resolve); });
    }
  };
  if (window.Plotly) {
    drawOneByOne();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
      addEventListener(event, () => { root.classList.toggle("printing", printing); drawAll(); });
    }
  }

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.addEventListener("click", async () => {
      const code = document.getElementById(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // a page that is not from a secure place may only select
        select(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
