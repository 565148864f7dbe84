// A line chart in SVG: axes with rounded ticks, curves, bands, marks; drag to zoom along x.
// Colours are classes of the style sheet, so that light and dark need no drawing anew.
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function roundTicks(low, high, wanted) {
  const rough = (high - low) / Math.max(wanted, 1);
  if (!(rough > 0) || !Number.isFinite(rough)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((one) => one * power >= rough) ?? 10);
  const digits = Math.max(0, Math.min(12, -Math.floor(Math.log10(step) + 1e-9)));
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) {
    ticks.push([k * step, (k * step).toFixed(digits)]);
  }
  return ticks;
}

function describeCurve([kind, words]) {
  const item = document.createElement("li");
  if (kind) {
    const sample = make("svg", { width: 22, height: 8, "aria-hidden": "true" });
    sample.append(make("line", { class: `curve ${kind}`, x1: 0, x2: 22, y1: 4, y2: 4 }));
    item.append(sample);
  }
  item.append(words);
  return item;
}

class Chart {
  constructor(place, { x, y, label }) {
    this.place = place;
    this.names = { x, y };
    this.svg = make("svg", { role: "img", "aria-label": label });
    this.legends = document.createElement("ul"); // above the picture: off the data
    place.append(this.legends, this.svg);
    this.zoom = null;
    this.draw = () => {};
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.watchPointer();
  }

  // Begin a picture: `range` of x and y in the data's units; `top` pixels are left for labels.
  // The legend, pairs of class and words, comes first: it takes height from the picture.
  begin(range, legend, { top = 12 } = {}) {
    this.legends.replaceChildren(...legend.map(describeCurve));
    this.names_end = -Infinity;
    const { width, height } = this.svg.getBoundingClientRect();
    this.size = [Math.max(width, 120), Math.max(height, 100)];
    this.margin = { left: 64, right: 12, top, bottom: 40 };
    this.full = range.x;
    this.range = { x: this.zoom ?? range.x, y: range.y };
    this.svg.setAttribute("viewBox", `0 0 ${this.size[0]} ${this.size[1]}`);
    const { left, right, bottom } = this.margin;
    const [w, h] = [this.size[0] - left - right, this.size[1] - top - bottom];
    const clip = make("clipPath", { id: `clip-${this.place.id}` });
    clip.append(make("rect", { x: left, y: top, width: w, height: h }));
    this.inner = make("g", { "clip-path": `url(#clip-${this.place.id})` });
    this.outer = make("g");
    this.svg.replaceChildren(clip, this.outer, this.inner);
    for (const [at, text] of roundTicks(...this.range.x, w / 80)) {
      const x = this.x(at);
      this.outer.append(make("line", { class: "tick", x1: x, x2: x, y1: top, y2: top + h }));
      this.outer.append(make("text", { x, y: top + h + 16, "text-anchor": "middle" }, text));
    }
    for (const [at, text] of roundTicks(...this.range.y, h / 45)) {
      const y = this.y(at);
      this.outer.append(make("line", { class: "tick", x1: left, x2: left + w, y1: y, y2: y }));
      this.outer.append(make("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text));
    }
    this.outer.append(make("rect", { class: "frame", x: left, y: top, width: w, height: h }));
    const middle = top + h / 2;
    this.outer.append(
      make("text", { x: left + w / 2, y: this.size[1] - 6, "text-anchor": "middle" }, this.names.x),
      make("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, this.names.y),
    );
  }

  x(value) {
    const [low, high] = this.range.x;
    const { left, right } = this.margin;
    return left + ((value - low) / (high - low)) * (this.size[0] - left - right);
  }

  y(value) {
    const [low, high] = this.range.y;
    const { top, bottom } = this.margin;
    return this.size[1] - bottom - ((value - low) / (high - low)) * (this.size[1] - top - bottom);
  }

  curve(xs, ys, kind) {
    let path = "";
    for (let i = 0; i < xs.length; i++) {
      if (!Number.isFinite(ys[i])) continue;
      path += `${path ? "L" : "M"}${this.x(xs[i]).toFixed(1)} ${this.y(ys[i]).toFixed(1)}`;
    }
    this.inner.append(make("path", { class: `curve ${kind}`, d: path }));
  }

  band(xs, lows, highs, kind) {
    const points = [];
    for (let i = 0; i < xs.length; i++) points.push([xs[i], highs[i]]);
    for (let i = xs.length - 1; i >= 0; i--) points.push([xs[i], lows[i]]);
    if (!points.length || points.some(([, y]) => !Number.isFinite(y))) return;
    const path = points.map(([x, y]) => `${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`);
    this.inner.append(make("path", { class: kind, d: `M${path.join("L")}Z` }));
  }

  mark(at, kind, label) {
    const [low, high] = this.range.x;
    if (!(at >= low && at <= high)) return;
    const x = this.x(at);
    const { top, bottom } = this.margin;
    this.inner.append(make("line", { class: kind, x1: x, x2: x, y1: top, y2: this.size[1] - bottom }));
    if (label) { // marks come from left to right: a name gives way to the one before
      const at = Math.max(x + 4, this.names_end + 12);
      this.names_end = at;
      const place = { class: `${kind} name`, transform: `translate(${at} ${top - 4}) rotate(-90)` };
      this.outer.append(make("text", place, label));
    }
  }

  watchPointer() {
    let start = null;
    let brush = null;
    const where = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    const toData = (pixel) => {
      const [low, high] = this.range.x;
      const { left, right } = this.margin;
      const share = (pixel - left) / (this.size[0] - left - right);
      return low + Math.min(1, Math.max(0, share)) * (high - low);
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "touch") start = where(event);
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (start === null) return;
      brush?.remove();
      const [one, other] = [Math.min(start, where(event)), Math.max(start, where(event))];
      const { top, bottom } = this.margin;
      brush = make("rect", { class: "brush", x: one, width: other - one, y: top, height: this.size[1] - top - bottom });
      this.svg.append(brush);
    });
    addEventListener("pointerup", (event) => {
      if (start === null) return;
      const ends = [toData(start), toData(where(event))].sort((a, b) => a - b);
      const moved = Math.abs(where(event) - start);
      start = null;
      brush?.remove();
      if (moved > 8) this.zoom = ends;
      else this.pick?.(ends[0]);
      this.draw();
    });
    this.svg.addEventListener("dblclick", () => {
      this.zoom = null;
      this.draw();
    });
  }
}
