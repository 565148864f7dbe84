// The list of objects (sorted, filtered), the keys, and the start of the page.
const LISTED = ["source_id", "redshift_cnn", "class_vi", ...data.columns.map(({ name }) => name)
  .filter((name) => !["redshift_cnn", "redshift_cnn_lower", "redshift_cnn_upper", "flags_cnn"].includes(name)), "flags"];

function valueOf(name, i) {
  if (name === "source_id") return data.ids[i];
  if (name === "class_vi") return review.get(data.ids[i]).class || null;
  if (name === "redshift_vi") return review.get(data.ids[i]).redshift;
  if (name === "flags") return data.flags[i].join(", ") || null;
  return column(name)[i] ?? null;
}

function cellText(name, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value).replaceAll("_", " ");
  if (name.startsWith("redshift") || name.startsWith("probability")) return value.toFixed(4);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(7)));
}

function makeRow(i) {
  const row = element("tr");
  row.dataset.at = i;
  row.classList.toggle("unusable", !data.usable[i]);
  row.setAttribute("aria-current", String(i === state.at));
  for (const name of LISTED) {
    row.append(element("td", cellText(name, valueOf(name, i)), { className: name === "class_vi" ? "vi" : "" }));
  }
  row.addEventListener("click", () => showObject(i));
  return row;
}

function compareBy(name) {
  return (i, k) => {
    const [one, other] = [valueOf(name, i), valueOf(name, k)];
    if (one === null || other === null) return (one === null) - (other === null) || i - k;
    if (name === "source_id") return BigInt(one) < BigInt(other) ? -1 : 1;
    return typeof one === "number" ? one - other || i - k : String(one).localeCompare(String(other)) || i - k;
  };
}

function listObjects() {
  const flag = $("filter-flag").value;
  const kind = $("filter-class").value;
  const [name, low, high] = ["column", "low", "high"].map((part) => $(`filter-${part}`).value);
  const inside = (value) => (low === "" || (value !== null && value >= Number(low)))
    && (high === "" || (value !== null && value <= Number(high)));
  let order = data.ids.map((_, i) => i).filter((i) => {
    const words = data.flags[i];
    const seen = review.get(data.ids[i]);
    if (flag === "usable" ? !data.usable[i] : flag === "unusable" ? data.usable[i] : flag === "none" ? words.length : flag && !words.includes(flag)) return false;
    if (kind === "new" ? review.entries[data.ids[i]] : kind === "any" ? !review.entries[data.ids[i]] : kind && seen.class !== kind) return false;
    return !name || inside(valueOf(name, i));
  });
  if (state.sort) {
    order.sort(compareBy(state.sort));
    if (state.falling) { // what has no value stays at the end
      const held = order.filter((i) => valueOf(state.sort, i) !== null);
      order = [...held.reverse(), ...order.slice(held.length)];
    }
  }
  state.order = order;
  $("rows").replaceChildren(...order.map(makeRow));
  for (const head of $("heads").children) {
    const mine = head.dataset.name === state.sort;
    head.setAttribute("aria-sort", mine ? (state.falling ? "descending" : "ascending") : "none");
    head.firstChild.textContent = `${head.dataset.name.replace("redshift_cnn", "z")}${mine ? (state.falling ? " ▼" : " ▲") : ""}`;
  }
  if (order.length && !order.includes(state.at)) showObject(order[0]);
  else if (order.length) showObject(state.at);
  else warn("No object passes the filters.");
  if (order.length) $("notice").hidden = true;
}

const KEYS = [
  [["ArrowRight", "n"], "next object", () => step(1)],
  [["ArrowLeft", "p"], "previous object", () => step(-1)],
  [["u"], "next that has not been looked at", stepToNew],
  [["+", "="], "redshift of the lines up by 0.001 (with Alt 0.0001)", (event) => setRedshift(state.z + (event.altKey ? 1e-4 : 1e-3))],
  [["-"], "down", (event) => setRedshift(state.z - (event.altKey ? 1e-4 : 1e-3))],
  [["m"], "to the median, again to each peak and the nearest", () => cyclePlaces()],
  [["a"], "take this redshift as the one by eye", () => enter({ redshift: Number(state.z.toFixed(4)) })],
  ...CLASSES.map((name, i) => [[String(i + 1)], `it is: ${name}`, () => enter({ class: name })]),
  [["c"], "write a comment", () => $("vi-comment").focus()],
  [["f"], "rest frame", () => $("rest").click()],
  [["l"], "lines", () => $("lines").click()],
  [["s"], "nearest simulated galaxy", () => data.near && $("nearest").click()],
  [["x"], "export as csv", () => review.save("csv")],
  [["?"], "these keys", () => $("help").showModal()],
];

function cyclePlaces() {
  const places = placesOf(state.at).map(([, z]) => z);
  const now = places.findIndex((z) => Math.abs(z - state.z) < 5e-5);
  if (places.length) setRedshift(places[(now + 1) % places.length]);
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches('input:not([type="range"]):not([type="checkbox"]):not([type="radio"]), select, textarea');
  if (typing && event.key === "Enter") event.preventDefault();
  if (typing && ["Enter", "Escape"].includes(event.key)) event.target.blur();
  const sliding = event.target.matches('input[type="range"]') && /^(Arrow|Home|End|Page)/.test(event.key);
  if (typing || sliding || event.ctrlKey || event.metaKey || $("help").open) return;
  const found = KEYS.find(([keys]) => keys.includes(event.key));
  if (!found) return;
  event.preventDefault();
  found[2](event);
});

function setUp() {
  $("slider").min = data.z_range[0];
  $("slider").max = data.z_range[1];
  $("slider").step = 0.0001;
  for (const name of ["slider", "redshift"]) $(name).addEventListener("input", (event) => {
    if (event.target.value !== "") {
      state.z = Number(event.target.value);
      $(name === "slider" ? "redshift" : "slider").value = name === "slider" ? state.z.toFixed(4) : state.z;
      spectrum.draw();
      distribution.draw();
    }
  });
  for (const name of ["rest", "lines", "nearest"]) $(name).addEventListener("change", () => { spectrum.zoom = null; spectrum.draw(); });
  $("nearest-label").hidden = !data.near;
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("copy").addEventListener("click", () => navigator.clipboard?.writeText(data.ids[state.at]));
  for (const [i, name] of CLASSES.entries()) {
    const label = element("label");
    const radio = element("input", undefined, { type: "radio", name: "class", value: name });
    radio.addEventListener("change", () => enter({ class: name }));
    label.append(radio, `${name} `, element("kbd", String(i + 1)));
    $("classes").append(label);
  }
  $("accept").addEventListener("click", () => enter({ redshift: Number(state.z.toFixed(4)) }));
  $("vi-redshift").addEventListener("change", (event) =>
    enter({ redshift: event.target.value === "" ? null : Number(event.target.value) }));
  $("vi-comment").addEventListener("change", (event) => enter({ comment: event.target.value }));
  $("clear").addEventListener("click", () => enter({ class: "", redshift: null, comment: "" }));
  $("verdict").addEventListener("submit", (event) => event.preventDefault());
  $("export-csv").addEventListener("click", () => review.save("csv"));
  $("export-ecsv").addEventListener("click", () => review.save("ecsv"));
  $("load").addEventListener("change", async (event) => {
    try {
      warn(`${review.load(await event.target.files[0].text())} objects taken from ${event.target.files[0].name}`);
    } catch (error) {
      warn(`${event.target.files[0].name} cannot be taken: ${error.message}`);
    }
    const words = $("notice").textContent;
    listObjects();
    warn(words);
  });
  $("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.body).backgroundColor !== "rgb(255, 255, 255)";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });
  $("help-button").addEventListener("click", () => $("help").showModal());
  for (const [keys, words] of KEYS) {
    const names = element("dt");
    for (const key of keys) names.append(element("kbd", key.replace("Arrow", "")), " ");
    $("keys").append(names, element("dd", words));
  }
  const flags = [...new Set(data.flags.flat())].sort();
  fill("filter-flag", [["", "any flags"], ["usable", "usable"], ["unusable", "not usable"], ["none", "no flags"],
    ...flags.map((name) => [name, name.replaceAll("_", " ")])]);
  fill("filter-class", [["", "any class"], ["new", "not looked at"], ["any", "looked at"], ...CLASSES.map((name) => [name, name])]);
  const numeric = data.columns.filter(({ values }) => values.some((value) => typeof value === "number"));
  fill("filter-column", [["", "any value of"], ...numeric.map(({ name }) => [name, name]), ["redshift_vi", "redshift_vi"]]);
  for (const part of ["flag", "class", "column", "low", "high"]) $(`filter-${part}`).addEventListener("input", listObjects);
  $("filter-clear").addEventListener("click", () => {
    for (const part of ["flag", "class", "column", "low", "high"]) $(`filter-${part}`).value = "";
    listObjects();
  });
  for (const name of LISTED) {
    const head = element("th", undefined, { scope: "col" });
    head.dataset.name = name;
    const button = element("button", name, { type: "button" });
    button.addEventListener("click", () => {
      state.falling = state.sort === name && !state.falling;
      state.sort = name;
      listObjects();
    });
    head.append(button);
    $("heads").append(head);
  }
  $("footer").textContent = data.footer;
  const wanted = data.ids.indexOf(location.hash.slice(1));
  state.at = Math.max(wanted, 0);
  listObjects();
}

function fill(id, options) {
  $(id).replaceChildren(...options.map(([value, text]) => element("option", text, { value })));
}

setUp();
