// The overview: sorting, finding, choosing columns, pinning, downloads. The page is complete without it.
// Tables keep a part of their rows in the document and give out more on the way down, so that a thousand sort at once.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const block = document.getElementById("overview-data");
  if (!block) return;
  const { state } = window.site;
  const data = JSON.parse(block.textContent);
  const tools = document.getElementById("tools");
  const columns = new Map(data.columns.map((column) => [column.key, column]));
  const DEFAULT = { sort: "-share", hide: document.querySelector("table.runs").dataset.hide };
  const STEP = 30;
  const MOST = 6;

  const lower = (text) => text.toLocaleLowerCase("en");
  /** The value of a field of run number `at`, as it is downloaded. */
  const value = (name, at) => {
    const field = data.fields[name];
    const found = field.data[at];
    return field.values && found !== null ? field.values[found] : found;
  };

  let from = 0;
  const groups = [...document.querySelectorAll("section.group")].map((section) => {
    const table = section.querySelector("table.runs");
    const [body, apart] = table.tBodies;
    const rows = [...table.querySelectorAll("tbody tr:not(.apart)")];
    const group = { section, table, body, apart, rows, from, limit: STEP, shown: [], order: null, ranks: null };
    group.line = apart ? apart.rows[0] : null;
    group.numbers = rows.map((row, index) => from + index);
    from += rows.length;
    return group;
  });
  const groupOf = (at) => groups.find((group) => at < group.from + group.rows.length);
  const rowOf = (at) => groupOf(at).rows[at - groupOf(at).from];
  const texts = groups.flatMap((group) => {
    const facts = group.section.querySelector(".facts").textContent;
    return group.numbers.map((at) =>
      lower(["model", "revision", "family", "architecture", "attention", "verified", "set", "measured_on"].map((name) => value(name, at)).join(" ") + " " + facts),
    );
  });
  const byKey = new Map(data.fields.run.data.map((number, at) => [data.fields.run.values[number], at]));

  const choices = [...tools.querySelectorAll("select")];
  const offered = (select, wanted) => ([...select.options].some((option) => option.value === wanted) ? wanted : "");

  /** Everything that the reader chose, from the address. What makes no sense there is passed over. */
  const read = () => {
    const params = state.read();
    const sort = params.get("sort") || DEFAULT.sort;
    const column = columns.get(sort.replace(/^-/, ""));
    const usable = column && column.fields.length > 0;
    const hide = params.has("hide") ? params.get("hide").split(".") : DEFAULT.hide.split(" ");
    return {
      sort: usable ? sort : DEFAULT.sort,
      words: lower(params.get("q") || "").split(/\s+/).filter(Boolean),
      narrow: Object.fromEntries(choices.map((select) => [select.name, offered(select, params.get(select.name))])),
      hidden: hide.filter((key) => columns.has(key) && key !== "model"),
      pins: [...new Set((params.get("pin") || "").split(","))].filter((key) => byKey.has(key)).slice(0, MOST).map((key) => byKey.get(key)),
    };
  };

  /** Run numbers of a group in the order of a column, missing values last, equal ones as the page has them. Runs that
   * are not over the whole set stand below the others. */
  const sorted = (group, key, descending) => {
    const found = data.fields[columns.get(key).fields[0]].data;
    return [...group.numbers].sort((a, b) => {
      if (data.apart[a] !== data.apart[b]) return data.apart[a] - data.apart[b];
      if (found[a] === null || found[b] === null) return (found[a] === null) - (found[b] === null) || a - b;
      return (descending ? found[b] - found[a] : found[a] - found[b]) || a - b;
    });
  };

  /** Places by that order; equal values share the first of theirs, a missing one has none, nor has a run apart. */
  const ranked = (order, key) => {
    const found = data.fields[columns.get(key).fields[0]].data;
    const ranks = new Map();
    order.filter((at) => !data.apart[at]).forEach((at, place, whole) => {
      const before = whole[place - 1];
      if (found[at] === null) ranks.set(at, null);
      else ranks.set(at, place > 0 && found[before] === found[at] ? ranks.get(before) : place + 1);
    });
    return ranks;
  };

  const arrange = (sort) => {
    const key = sort.replace(/^-/, "");
    const descending = sort.startsWith("-");
    // A place in the alphabet, or in time, is no rank: then the rank stays that by share.
    const by = columns.get(key).numeric ? key : "share";
    for (const group of groups) {
      group.order = sorted(group, key, descending);
      group.ranks = ranked(by === key ? group.order : sorted(group, by, true), by);
      for (const header of group.table.tHead.rows[0].cells) {
        if (header.dataset.key === key) header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        else header.removeAttribute("aria-sort");
      }
    }
    document.getElementById("by").textContent = columns.get(by).label.replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase());
  };

  const fits = (at, chosen, group) => {
    const { narrow } = chosen;
    if (narrow.family && value("family", at) !== narrow.family) return false;
    if (narrow.attention && value("attention", at) !== narrow.attention) return false;
    if (narrow.badge && value("verified", at) !== narrow.badge) return false;
    if (narrow.group && group.section.id !== narrow.group) return false;
    if (narrow.size) {
      const size = data.sizes.find((one) => one[0] === narrow.size);
      const parameters = value("parameters", at);
      if (size && (parameters < size[1] || parameters >= size[2])) return false;
    }
    return chosen.words.every((word) => texts[at].includes(word));
  };

  /** The row of a run with what only scripts add to it. */
  const dressed = (group, at, pinned) => {
    const row = rowOf(at);
    const cell = row.cells[0];
    if (!cell.firstElementChild) {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = value("run", at);
      box.setAttribute("aria-label", "Pin " + row.cells[1].querySelector("a").textContent);
      cell.replaceChildren(box, document.createElement("span"));
    }
    cell.firstElementChild.checked = pinned;
    cell.lastElementChild.textContent = group.ranks.get(at) ?? "–";
    row.classList.toggle("pin", pinned);
    return row;
  };

  const draw = (group, pins) => {
    const visible = group.shown.filter((at, place) => place < group.limit || pins.has(at));
    const rows = (apart) => visible.filter((at) => data.apart[at] === apart).map((at) => dressed(group, at, pins.has(at)));
    group.body.replaceChildren(...rows(false));
    if (group.apart) {
      const below = rows(true);
      group.apart.replaceChildren(...(below.length ? [group.line, ...below] : []));
    }
    group.section.hidden = group.shown.length === 0;
    group.more.hidden = visible.length === group.shown.length;
    group.more.textContent = `Show more of ${group.shown.length.toLocaleString("en")}`;
  };

  const hide = (hidden) => {
    const widths = [...groups[0].table.querySelectorAll("col")].map((column) => Number(column.getAttribute("width")));
    const width = data.columns.reduce((sum, column, place) => sum + (hidden.includes(column.key) ? 0 : widths[place]), 0);
    for (const group of groups) {
      group.table.dataset.hide = hidden.join(" ");
      group.table.style.minWidth = `${width}px`;
    }
  };

  const label = (at) => rowOf(at).cells[1].querySelector("a").textContent;

  const showPins = (pins) => {
    const bar = document.getElementById("pinned");
    bar.hidden = pins.length === 0;
    document.body.classList.toggle("has-pins", pins.length > 0);
    const list = document.createElement("ul");
    for (const at of pins) {
      const item = document.createElement("li");
      const name = document.createElement("bdi");
      name.textContent = label(at);
      const drop = document.createElement("button");
      drop.type = "button";
      drop.textContent = "×";
      drop.setAttribute("aria-label", "Unpin " + label(at));
      drop.addEventListener("click", () => pin(at, false));
      item.append(name, drop);
      list.append(item);
    }
    const say = document.createElement("p");
    say.textContent = pins.length < MOST ? `${pins.length} pinned` : `${MOST} pinned, the maximum`;
    bar.replaceChildren(say, list);
    if (!bar.dataset.compare) return;
    const keys = pins.map((at) => value("run", at));
    if (pins.length < 2) {
      const hint = document.createElement("p");
      hint.textContent = "Pin another to compare";
      bar.append(hint);
    } else {
      const link = document.createElement("a");
      link.className = "compare";
      link.textContent = "Compare";
      link.href = `${bar.dataset.compare}#runs=${keys.map(encodeURIComponent).join(",")}`;
      bar.append(link);
    }
  };

  const pin = (at, on) => {
    const pins = read().pins.filter((other) => other !== at);
    if (on && pins.length < MOST) pins.push(at);
    state.write("pin", pins.map((other) => value("run", other)).join(","));
    update();
  };

  const fillForm = (chosen) => {
    const q = state.read().get("q") || "";
    if (tools.elements.q.value.trim() !== q) tools.elements.q.value = q;
    for (const select of choices) select.value = chosen.narrow[select.name];
    for (const box of tools.querySelectorAll("[name=column]")) box.checked = !chosen.hidden.includes(box.value);
  };

  let now = null;
  let arranged = null;
  /** Everything on the page follows from the address. */
  const update = () => {
    const chosen = read();
    if (!now || now.sort !== chosen.sort) arrange(chosen.sort);
    if (!now || now.hidden.join() !== chosen.hidden.join()) hide(chosen.hidden);
    const pins = new Set(chosen.pins);
    const arrangement = JSON.stringify([chosen.sort, chosen.words, chosen.narrow]);
    let count = 0;
    for (const group of groups) {
      const fitting = group.order.filter((at) => !pins.has(at) && fits(at, chosen, group));
      const both = [...group.order.filter((at) => pins.has(at)), ...fitting];
      group.shown = [...both.filter((at) => !data.apart[at]), ...both.filter((at) => data.apart[at])];
      if (arrangement !== arranged) group.limit = STEP;
      count += group.shown.length;
      draw(group, pins);
    }
    now = chosen;
    arranged = arrangement;
    const all = from.toLocaleString("en");
    document.getElementById("shown").textContent = count === from ? `${all} ${from === 1 ? "run" : "runs"}` : `${count.toLocaleString("en")} of ${all} runs`;
    document.getElementById("reset").hidden = !chosen.words.length && !Object.values(chosen.narrow).some(Boolean);
    fillForm(chosen);
    showPins(chosen.pins);
  };

  const more = (group) => {
    group.limit += STEP;
    draw(group, new Set(now.pins));
  };

  // Downloads

  /** What is shown, as named columns in the order of the page: { name, kind, data }. */
  const table = () => {
    const shown = groups.flatMap((group) => group.shown.map((at) => ({ at, rank: group.ranks.get(at) ?? null })));
    const found = [];
    for (const column of data.columns) {
      if (now.hidden.includes(column.key)) continue;
      if (column.key === "rank") found.push({ name: "rank", kind: "int", data: shown.map((one) => one.rank) });
      for (const name of column.fields) {
        found.push({ name, kind: data.fields[name].kind, data: shown.map((one) => value(name, one.at)) });
      }
    }
    return found;
  };

  const csv = (found) => {
    const quote = (cell) => {
      if (cell === null) return "";
      if (typeof cell === "number") return String(cell);
      // A text that a spreadsheet would take for a formula is marked as text.
      const text = /^[=+\-@\t\r]/.test(cell) ? "'" + cell : cell;
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [found.map((column) => column.name).join(",")];
    for (let row = 0; row < found[0].data.length; row++) lines.push(found.map((column) => quote(column.data[row])).join(","));
    return lines.join("\r\n") + "\r\n";
  };

  const json = (found) => {
    const rows = found[0].data.map((_, row) => Object.fromEntries(found.map((column) => [column.name, column.data[row]])));
    return JSON.stringify(rows, null, 1) + "\n";
  };

  const parquet = async (found) => {
    if (!window.hyparquetWriter) {
      await new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = "assets/vendor/hyparquet-writer.js";
        script.addEventListener("load", resolve);
        script.addEventListener("error", reject);
        document.head.append(script);
      });
    }
    const types = { string: "STRING", int: "INT64", double: "DOUBLE" };
    const columnData = found.map((column) => ({
      name: column.name,
      type: types[column.kind],
      nullable: true,
      data: column.kind === "int" ? column.data.map((cell) => (cell === null ? null : BigInt(cell))) : column.data,
    }));
    return window.hyparquetWriter.parquetWriteBuffer({ columnData });
  };

  const FORMATS = {
    csv: [csv, "text/csv;charset=utf-8"],
    json: [json, "application/json"],
    parquet: [parquet, "application/vnd.apache.parquet"],
  };

  const download = async (name) => {
    const [form, type] = FORMATS[name];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await form(table())], { type }));
    link.download = `retrieval-heads.${name}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // What the reader does

  for (const group of groups) {
    group.more = document.createElement("button");
    group.more.type = "button";
    group.more.className = "more";
    group.more.addEventListener("click", () => more(group));
    group.table.after(group.more);
    new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && more(group), { rootMargin: "600px" }).observe(group.more);
    for (const header of group.table.tHead.rows[0].cells) {
      if (!columns.get(header.dataset.key).fields.length) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const key = header.dataset.key;
        const was = header.getAttribute("aria-sort");
        const descending = was ? was === "ascending" : columns.get(key).numeric;
        const sort = (descending ? "-" : "") + key;
        state.write("sort", sort === DEFAULT.sort ? null : sort);
        update();
      });
    }
    group.table.addEventListener("change", (event) => {
      const at = byKey.get(event.target.value);
      pin(at, event.target.checked);
      const box = rowOf(at).cells[0].firstElementChild;
      if (box.isConnected) box.focus({ preventScroll: true });
    });
  }
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("input", (event) => {
    const { name } = event.target;
    if (name === "column") {
      const hidden = [...tools.querySelectorAll("[name=column]:not(:checked)")].map((box) => box.value);
      state.write("hide", hidden.join(" ") === DEFAULT.hide ? null : hidden.join(".") || "none");
    } else state.write(name, event.target.value.trim());
    update();
  });
  document.getElementById("reset").addEventListener("click", () => {
    for (const name of ["q", ...Object.keys(now.narrow)]) state.write(name, null);
    update();
    tools.elements.q.focus();
  });
  for (const button of tools.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => download(button.dataset.download));
  }
  for (const menu of tools.querySelectorAll("details")) {
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
    document.addEventListener("click", (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  }
  window.addEventListener("hashchange", update);
  tools.hidden = false;
  update();
});
