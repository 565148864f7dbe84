// What the person who looks has entered: kept in the browser, exported, loaded again.
const CLASSES = ["galaxy", "star", "quasar", "blend", "bad data", "unsure"];

class Review {
  constructor(data) {
    this.data = data;
    this.key = `gaia_redshift:${data.key}`;
    this.entries = {};
    this.kept = true;
    try {
      this.entries = JSON.parse(localStorage.getItem(this.key)) ?? {};
    } catch {
      this.kept = false;
    }
  }

  get(id) {
    return this.entries[id] ?? { class: "", redshift: null, comment: "" };
  }

  set(id, change) {
    const entry = { ...this.get(id), ...change };
    const empty = !entry.class && entry.redshift === null && !entry.comment;
    if (empty) delete this.entries[id];
    else this.entries[id] = entry;
    try {
      localStorage.setItem(this.key, JSON.stringify(this.entries));
    } catch {
      this.kept = false;
    }
  }

  count() {
    return this.data.ids.filter((id) => this.entries[id]).length;
  }

  // The table as exported: names, types for ECSV, and rows of cells (null: masked).
  table() {
    const columns = [["source_id", "int64", "Gaia source identifier"]];
    for (const { name, type, description } of this.data.columns) columns.push([name, type, description]);
    columns.push(
      ["redshift_vi", "float64", "Redshift by visual inspection"],
      ["class_vi", "string", `Class by visual inspection: ${CLASSES.join(", ")}`],
      ["comment_vi", "string", "Comment of the visual inspection"],
    );
    const rows = this.data.ids.map((id, i) => {
      const { class: kind, redshift, comment } = this.get(id);
      const words = comment.replace(/\s+/g, " ").trim();
      return [id, ...this.data.columns.map(({ values }) => values[i]), redshift, kind || null, words || null];
    });
    return { columns, rows };
  }

  toText(ecsv) {
    const { columns, rows } = this.table();
    const cell = (value) => {
      if (value === null) return ecsv ? '""' : "";
      const text = String(value);
      return /[",\n\r#]|^\s|\s$|^$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [columns.map(([name]) => cell(name)).join(","), ...rows.map((row) => row.map(cell).join(","))];
    if (ecsv) {
      const describe = ([name, type, description]) =>
        `# - {name: ${JSON.stringify(name)}, datatype: ${type}, description: ${JSON.stringify(description)}}`;
      const meta = Object.entries(this.data.meta).map(([k, v]) => `# - ${JSON.stringify(k)}: ${JSON.stringify(v)}`);
      lines.unshift("# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:", ...columns.map(describe),
        "# meta: !!omap", ...meta, "# schema: astropy-2.0");
    }
    return `${lines.join("\n")}\n`;
  }

  save(ending) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.toText(ending === "ecsv")], { type: "text/plain" }));
    link.download = `${this.data.file}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // Take what was exported before; returns how many objects it says something of.
  load(text) {
    const [heads, ...rows] = parseRows(text.split(/\r?\n/).filter((line) => !line.startsWith("#")).join("\n"));
    const place = Object.fromEntries((heads ?? []).map((name, i) => [name, i]));
    if (!("source_id" in place && "class_vi" in place)) throw new Error("no columns source_id and class_vi");
    const known = new Set(this.data.ids);
    let n = 0;
    for (const row of rows) {
      const id = row[place.source_id];
      const [kind, z, comment] = ["class_vi", "redshift_vi", "comment_vi"].map((name) => row[place[name]] ?? "");
      if (!known.has(id) || !(kind || z || comment)) continue;
      this.set(id, { class: CLASSES.includes(kind) ? kind : "", redshift: z === "" ? null : Number(z), comment });
      n += 1;
    }
    return n;
  }
}

function parseRows(text) {
  const rows = [];
  let row = [];
  const pattern = /(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\n|$)/g;
  for (let match = pattern.exec(text); match && pattern.lastIndex <= text.length; match = pattern.exec(text)) {
    row.push(match[1] !== undefined ? match[1].replaceAll('""', '"') : match[2]);
    if (match[3] !== ",") {
      if (row.length > 1 || row[0]) rows.push(row);
      row = [];
    }
    if (match[3] === "") break;
  }
  return rows;
}
