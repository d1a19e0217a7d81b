"use strict";
// Draws each chart when it comes near the screen (all before printing), and sorts tables by their headings.
const specs = JSON.parse(document.getElementById("specs").textContent);
const views = {};
const text = { labelColor: "var(--ink)", titleColor: "var(--muted)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 };
const config = {
  background: "transparent",
  font: "system-ui, sans-serif",
  view: { stroke: null },
  text: { fontSize: 12 },
  axis: { ...text, gridColor: "var(--line)", domainColor: "var(--faint)", tickColor: "var(--faint)", labelLimit: 220 },
  axisY: { titleAngle: 0, titleAlign: "left", titleAnchor: "end", titleX: 0, titleY: -10, titlePadding: 0 },
  legend: text,
};

async function draw(place) {
  if (!(place.id in specs) || place.id in views) return;
  views[place.id] = null;
  const frame = { width: "container", autosize: { type: "fit-x", contains: "padding" } };
  const spec = { ...frame, description: place.getAttribute("aria-label"), ...specs[place.id] };
  const drawn = await vegaEmbed(place, spec, { actions: false, renderer: "svg", config, tooltip: { theme: "page" } });
  views[place.id] = drawn.view;
}

const places = [...document.querySelectorAll(".chart")];
const watcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "400px" },
);
places.forEach((place) => watcher.observe(place));
const drawAll = () => Promise.all(places.map(draw));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  drawAll();
});

function sortBy(table, column, button) {
  const heading = button.closest("th");
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const value = (row) => row.cells[column]?.dataset.value;
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
    const order = isNaN(left) || isNaN(right) ? left.localeCompare(right, "en", { numeric: true }) : left - right;
    return ascending ? order : -order;
  };
  table.querySelectorAll("th[aria-sort]").forEach((each) => each.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...[...body.rows].sort(compare));
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead button").forEach((button, column) =>
    button.addEventListener("click", () => sortBy(table, column, button)),
  );
}
