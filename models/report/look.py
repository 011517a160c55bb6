"""Style and script of the page of runs."""

from __future__ import annotations

STYLE = """
thead th { vertical-align: bottom; } tbody th { color: var(--ink); }
.key { width: 44px; height: 14px; vertical-align: middle; margin-right: 4px; }
.narrow { width: 16px; } .settings table { width: auto; }
.settings td, .settings th:not(:first-child) { padding-left: 16px; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.curve { fill: none; stroke: var(--c); stroke-width: 1.7; stroke-linejoin: round;
  stroke-linecap: round; }
.train { stroke-width: 1.2; } .valid { stroke-dasharray: 5 4.5; }
.d1 { stroke-dasharray: 9 4; } .d2 { stroke-dasharray: 1 4; } .d3 { stroke-dasharray: 9 4 1 4; }
.d4 { stroke-dasharray: 4 4; } .d5 { stroke-dasharray: 14 5 4 5; }
.band { fill: var(--c); opacity: .13; } .mark { fill: var(--c); }
.star { fill: var(--c); stroke: var(--panel); stroke-width: 1; }
.grid { stroke: var(--line); stroke-width: .6; } .level { stroke: var(--soft);
  stroke-dasharray: 2 3; } .chart .end { fill: var(--ink); font-weight: 600; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 18px; }
.legend li { overflow-wrap: anywhere; } .warning { border-left: 4px solid var(--open);
  background: var(--panel); padding: 6px 14px; overflow-wrap: anywhere; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
  gap: 16px; }
figure { margin: 0; break-inside: avoid; } figcaption { font-size: 12px; color: var(--soft);
  overflow-wrap: anywhere; }
img { max-width: 100%; max-height: 420px; background: #fff; border-radius: 6px; display: block; }
audio { width: 100%; }
.readout { position: fixed; z-index: 1; pointer-events: none; white-space: pre; font-size: 12px;
  background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: 6px 10px;
  font-variant-numeric: tabular-nums; max-width: 95vw; overflow: hidden; }
@media (max-width: 520px) { .chart text { font-size: 13px; } .chart .title { font-size: 15px; } }
@media print { .legend input, .readout, audio { display: none; } body { max-width: none; } }
"""
# Reads values off the curves under the mouse.  The page says everything without it.
SCRIPT = """
const box = document.createElement("div");
box.className = "readout"; box.hidden = true; document.body.append(box);
const short = value => Number(value.toPrecision(4)).toString();
function nearest(path, x) {
  let found = null;
  for (const [, px, py] of path.getAttribute("d").matchAll(/[ML](-?[\\d.]+) (-?[\\d.]+)/g))
    if (!found || Math.abs(px - x) < Math.abs(found[0] - x)) found = [Number(px), Number(py)];
  return found;
}
function show(event) {
  const plot = event.currentTarget.querySelector(".plot");
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(
    plot.getScreenCTM().inverse());
  const [left, right] = plot.dataset.x.split(" ").map(Number);
  let [low, high] = plot.dataset.y.split(" ").map(Number);
  const log = plot.dataset.log === "1", edge = Number(plot.dataset.edge);
  const { width, height } = plot.viewBox.baseVal;
  if (log) { low = Math.log(low); high = Math.log(high); }
  let lines = [], first = null;
  for (const path of plot.querySelectorAll(".curve")) {
    const point = path.getClientRects().length ? nearest(path, at.x) : null;
    if (!point) continue;
    const y = high + point[1] / height * (low - high);
    if (first === null || Math.abs(point[0] - at.x) < Math.abs(first - at.x)) first = point[0];
    lines.push(`${short(log ? Math.exp(y) : y)}  ${path.dataset.name}`);
  }
  if (!lines.length) return hide();
  const x = left + (first - edge) / (width - 2 * edge) * (right - left);
  box.textContent = [`${plot.dataset.title} ${Math.round(x)}`, ...lines].join("\\n");
  box.hidden = false;
  const x_max = innerWidth - box.offsetWidth - 8, y_max = innerHeight - box.offsetHeight - 8;
  box.style.left = Math.max(4, Math.min(event.clientX + 14, x_max)) + "px";
  box.style.top = Math.max(4, Math.min(event.clientY + 14, y_max)) + "px";
}
function hide() { box.hidden = true; }
for (const chart of document.querySelectorAll(".chart")) {
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerleave", hide);
}
"""
