// The page: one object at a time, its spectrum and p(z), what is entered about it, and the list.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const review = new Review(data);
const state = { at: 0, z: 0, order: data.ids.map((_, i) => i), sort: null, falling: false };

function unpack(text) {
  if (!text) return null;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
for (const name of ["wavelength", "flux", "error", "edges", "pdf", "flat", "prior", "near"]) data[name] = unpack(data[name]);
const width = data.wavelength.length;
const bins = data.edges ? data.edges.length - 1 : 0;
const centres = Array.from({ length: bins }, (_, i) => (data.edges[i] + data.edges[i + 1]) / 2);
const column = (name) => data.columns.find((one) => one.name === name)?.values ?? [];
const rowOf = (array, i, n) => array?.subarray(i * n, (i + 1) * n);
const show = (z) => (z === null || z === undefined ? "none" : Number(z).toFixed(4));

function element(name, text, properties = {}) {
  const node = Object.assign(document.createElement(name), properties);
  if (text !== undefined) node.textContent = text;
  return node;
}

const spectrum = new Chart($("spectrum"), {
  x: "wavelength (nm)", y: data.flux_label, label: "BP and RP spectrum with errors and lines" });
const distribution = new Chart($("distribution"), {
  x: "redshift", y: "probability density", label: "Distribution of the redshift" });

function boundsOf(values, low = 0, high = 0) {
  for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  return low === high ? [low, low + 1] : [low - 0.04 * (high - low), high + 0.08 * (high - low)];
}

spectrum.draw = () => {
  const flux = rowOf(data.flux, state.at, width);
  const error = rowOf(data.error, state.at, width);
  const near = rowOf(data.near, state.at, width);
  const scale = $("rest").checked ? 1 + state.z : 1;
  const xs = data.wavelength.map((nm) => nm / scale);
  spectrum.names.x = scale === 1 && !$("rest").checked ? "wavelength (nm)" : "rest wavelength (nm)";
  const ends = [Math.min(...xs) - 8 / scale, Math.max(...xs) + 8 / scale];
  const legend = [["bp", "BP"], ["rp", "RP"]];
  const withNear = near && $("nearest").checked;
  if (withNear) legend.push(["near", `nearest simulated, z ${show(data.near_redshift[state.at])}`]);
  if (!Number.isFinite(flux[0])) legend.splice(0, 3, ["", "no fluxes: see the flags"]);
  spectrum.begin({ x: ends, y: boundsOf(flux) }, legend, { top: 60 });
  for (const [name, from, to] of [["bp", 0, data.n_bp], ["rp", data.n_bp, width]]) {
    const x = xs.subarray(from, to);
    const y = flux.subarray(from, to);
    if (error) {
      const e = error.subarray(from, to);
      spectrum.band(x, y.map((v, i) => v - e[i]), y.map((v, i) => v + e[i]), `band ${name}`);
    }
    spectrum.curve(x, y, name);
    if (withNear) spectrum.curve(x, near.subarray(from, to), "near");
  }
  if (!$("lines").checked) return;
  for (const { name, nm, kind } of data.lines) {
    const at = (nm * (1 + state.z)) / scale;
    if (at > ends[0] && at < ends[1]) spectrum.mark(at, kind, name);
  }
};

distribution.draw = () => {
  const i = state.at;
  const pdf = rowOf(data.pdf, i, bins);
  const flat = rowOf(data.flat, i, bins);
  const prior = data.prior?.length > bins ? rowOf(data.prior, i, bins) : data.prior;
  const median = column("redshift_cnn")[i];
  const [low, high] = [column("redshift_cnn_lower")[i], column("redshift_cnn_upper")[i]];
  const known = pdf && Number.isFinite(pdf[0]);
  const top = known ? Math.max(...pdf, ...(flat ?? [])) : 1;
  const range = known ? rangeOfMass(pdf, flat, state.z) : data.z_range;
  const truth = column("redshift_true")[i] ?? null;
  const hand = review.get(data.ids[i]).redshift;
  const legend = [];
  if (known) legend.push(["pdf", "p(z), 68 % filled"], ["median", `median ${show(median)}`]);
  if (known && flat) legend.push(["flat", "with a flat prior"]);
  if (known && prior) legend.push(["prior", `prior ${data.prior_name} (scaled)`]);
  if (truth !== null) legend.push(["true", `true ${show(truth)}`]);
  if (hand !== null) legend.push(["hand", `by eye ${show(hand)}`]);
  legend.push(["here", `lines ${show(state.z)}`]);
  distribution.begin({ x: range, y: [0, 1.08 * top] }, legend);
  if (known) {
    const inside = centres.map((z, k) => [z, pdf[k]]).filter(([z]) => z >= low && z <= high);
    distribution.band(inside.map(([z]) => z), inside.map(() => 0), inside.map(([, p]) => p), "inside");
    if (prior) {
      const peak = Math.max(...prior);
      distribution.curve(centres, prior.map((p) => (0.6 * top * p) / peak), "prior");
    }
    if (flat) distribution.curve(centres, flat, "flat");
    distribution.curve(centres, pdf, "pdf");
  }
  for (const [z, kind] of [[median, "median"], [truth, "true"], [hand, "hand"], [state.z, "here"]]) {
    if (z !== null && z !== undefined) distribution.mark(z, kind);
  }
};
distribution.pick = (z) => setRedshift(z);

// The part of the redshifts that holds all but nothing of the probability, with a margin.
function rangeOfMass(pdf, flat, z) {
  const top = Math.max(...pdf, ...(flat ?? []));
  const held = centres.filter((_, k) => pdf[k] > 0.002 * top || flat?.[k] > 0.002 * top);
  const low = Math.min(held[0], z);
  const high = Math.max(held.at(-1), z);
  const margin = 0.15 * (high - low) + 0.005;
  return [Math.max(data.z_range[0], low - margin), Math.min(Math.max(data.z_range[1], z), high + margin)];
}

function setRedshift(z) {
  if (!Number.isFinite(z)) return;
  state.z = Math.min(Math.max(z, Number($("slider").min)), Number($("slider").max));
  $("slider").value = state.z;
  $("redshift").value = state.z.toFixed(4);
  spectrum.draw();
  distribution.draw();
}

function placesOf(i) {
  const places = [["median", column("redshift_cnn")[i]]];
  data.peaks[i].forEach(([z, odds], k) => places.push([`peak ${k + 1} (${Math.round(100 * odds)} %)`, z]));
  if (data.near) places.push(["nearest", data.near_redshift[i]]);
  return places.filter(([, z]) => z !== null && z !== undefined);
}

function showObject(i) {
  state.at = i;
  spectrum.zoom = distribution.zoom = null;
  const id = data.ids[i];
  const place = state.order.indexOf(i);
  $("name").textContent = `source_id ${id}`;
  $("words").replaceChildren();
  const words = data.flags[i];
  if (!words.length) $("words").append("no flags");
  words.forEach((name, k) => {
    $("words").append(k ? "; " : "", element("b", name.replaceAll("_", " ")), `: ${data.flag_meanings[name]}`);
  });
  $("places").replaceChildren(...placesOf(i).map(([name, z], k) => {
    const button = element("button", `${name} ${show(z)}`, { type: "button", title: k < 9 ? `Shift+${k + 1}` : "" });
    button.addEventListener("click", () => setRedshift(z));
    return button;
  }));
  const facts = [["object", `${place + 1} of ${state.order.length} in the list`]];
  for (const { name, unit, values } of data.columns) {
    if (name !== "flags_cnn") facts.push([name, `${cellText(name, values[i])}${unit ? ` ${unit}` : ""}`]);
  }
  if (data.near) facts.push(["nearest simulated", `mean square of difference / error: ${data.near_chi2[i]}`]);
  $("facts").replaceChildren(...facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  showEntry();
  setRedshift(placesOf(i)[0]?.[1] ?? review.get(id).redshift ?? 0);
  for (const row of $("rows").children) row.setAttribute("aria-current", String(Number(row.dataset.at) === i));
  $("rows").querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest" });
  try {
    history.replaceState(null, "", `#${id}`);
  } catch { /* some browsers refuse it for files */ }
}

function showEntry() {
  const { class: kind, redshift, comment } = review.get(data.ids[state.at]);
  for (const radio of $("classes").querySelectorAll("input")) radio.checked = radio.value === kind;
  $("vi-redshift").value = redshift ?? "";
  $("vi-comment").value = comment;
  $("progress").textContent = `${review.count()} of ${data.ids.length} looked at`;
}

function enter(change) {
  const id = data.ids[state.at];
  review.set(id, change);
  if (!review.kept) warn("This browser keeps nothing for this page: export before you close it.");
  showEntry();
  distribution.draw();
  const row = $("rows").querySelector(`[data-at="${state.at}"]`);
  if (row) row.replaceWith(makeRow(state.at));
}

function warn(words) {
  $("notice").textContent = words;
  $("notice").hidden = false;
}

function step(by) {
  const place = state.order.indexOf(state.at) + by;
  if (place >= 0 && place < state.order.length) showObject(state.order[place]);
}

function stepToNew() {
  const start = state.order.indexOf(state.at);
  const ahead = [...state.order.slice(start + 1), ...state.order.slice(0, start + 1)];
  const next = ahead.find((i) => !review.entries[data.ids[i]]);
  if (next === undefined) warn("All objects of the list have been looked at.");
  else showObject(next);
}
