// Chooses the models of the comparison, loads what their runs left beside their pages, and lays them out as the build
// lays out the first two. The address after the # names them: #runs=MODEL/RUN,MODEL/RUN&pair=1,2
"use strict";

(() => {
  const MOST = 6;
  const SHOWN = 40;
  const TOP = 10;
  const CHANGES = 8;
  const NANO = 1e9;
  const [WIDTH, HEIGHT, LEAST, POINTS] = [760, 320, 0.001, 64];
  const [CELL, MARGIN] = [10, 24];

  const byId = (id) => document.getElementById(id);
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** An element with attributes and children; text is text. */
  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "g", "rect", "path", "title", "text"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== ""));
    return node;
  }

  // --- The address ---

  const read = () => new URLSearchParams(location.hash.slice(1));

  function write(changes) {
    const params = read();
    if (!location.hash.includes("=")) [...params.keys()].forEach((key) => params.delete(key));
    for (const [name, value] of Object.entries(changes)) {
      if (value) params.set(name, value);
      else params.delete(name);
    }
    const hash = params.toString().replaceAll("%2F", "/").replaceAll("%2C", ",");
    history.replaceState(null, "", location.pathname + location.search + (hash ? "#" + hash : ""));
  }

  // --- Runs: those that can be chosen, and the data of those that are ---

  const choices = new Map();
  const data = new Map();
  const waiting = new Map();

  window.rhRun = (run) => data.set(run.key, run);

  /** The data of a run that can be chosen; other names are never turned into an address. */
  function load(key) {
    if (!choices.has(key)) return Promise.reject(new Error(`There is no run ${key} on this site.`));
    if (data.has(key)) return Promise.resolve(data.get(key));
    if (!waiting.has(key)) {
      waiting.set(
        key,
        new Promise((resolve, reject) => {
          const script = make("script", { src: `${byId("picker").dataset.root}models/${key}.heads.js` });
          const failed = () => reject(new Error(`The scores of ${choices.get(key).model} could not be read.`));
          script.addEventListener("load", () => (data.has(key) ? resolve(data.get(key)) : failed()));
          script.addEventListener("error", failed);
          document.head.append(script);
        }),
      );
    }
    return waiting.get(key);
  }

  // --- Measures, as rh_bench/stats/similarity.py has them ---

  function correlation(x, y) {
    const [n, sx, sy] = [x.length, sum(x), sum(y)];
    const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);
    const spread = Math.sqrt(n * dot(x, x) - sx * sx) * Math.sqrt(n * dot(y, y) - sy * sy);
    return spread ? Math.max(-1, Math.min(1, (n * dot(x, y) - sx * sy) / spread)) : null;
  }

  /** Average ranks, doubled and without their mean. */
  function ranks(scores) {
    const order = scores.map((_, i) => i).sort((a, b) => scores[a] - scores[b]);
    const found = new Array(scores.length);
    for (let first = 0; first < order.length; ) {
      let last = first;
      while (last + 1 < order.length && scores[order[last + 1]] === scores[order[first]]) last += 1;
      for (let i = first; i <= last; i += 1) found[order[i]] = first + last + 1 - scores.length;
      first = last + 1;
    }
    return found;
  }

  function topHeads(scores) {
    const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
    return new Set(order.slice(0, TOP).filter((i) => scores[i] > 0));
  }

  /** Expected overlap of random sets of these sizes: the mean over the hypergeometric distribution. */
  function chance(a, b, heads) {
    if (a + b === 0) return null;
    const least = Math.max(0, a + b - heads);
    let [weight, weights, mean] = [1, 0, 0];
    for (let k = least; k <= Math.min(a, b); k += 1) {
      weights += weight;
      mean += (weight * k) / (a + b - k);
      weight *= ((a - k) * (b - k)) / ((k + 1) * (heads - a - b + k + 1));
    }
    return mean / weights;
  }

  function similarity(first, second) {
    const [x, y, threshold] = [first.scores, second.scores, first.threshold];
    const micro = (scores) => scores.map((score) => Math.round(score / 1000));
    const [a, b] = [x, y].map((scores) => scores.filter((score) => score > threshold).length);
    const both = x.filter((score, i) => score > threshold && y[i] > threshold).length;
    const [top, other] = [topHeads(x), topHeads(y)];
    const full = top.size === TOP && other.size === TOP;
    return [
      correlation(micro(x), micro(y)),
      correlation(ranks(x), ranks(y)),
      a + b ? both / (a + b - both) : null,
      full ? [...top].filter((i) => other.has(i)).length / TOP : null,
      chance(a, b, x.length),
      TOP / x.length,
    ];
  }

  /** The model's name, with the set where it occurs twice, and with the run where both do. */
  function label(runs) {
    for (const run of runs) {
      const same = runs.filter((other) => other.model === run.model);
      const parts = [run.model];
      if (same.length > 1) parts.push(run.set);
      if (same.filter((other) => other.set === run.set).length > 1) parts.push(run.run);
      run.label = parts.join(" · ");
    }
  }

  const alike = (first, second) => first.scores && second.scores && first.grid === second.grid;

  // --- Drawing ---

  const colour = (place) => `f${place}`;
  const three = (value) => (value === null ? "–" : value.toFixed(3));
  const signed = (nano) => (nano > 0 ? "+" : "−") + (Math.abs(nano) / NANO).toFixed(3);
  const link = (run) => make("a", { href: byId("picker").dataset.root + run.page }, make("bdi", {}, run.label));
  const swatch = (place) => make("i", { class: `swatch-line ${colour(place)}` });
  const empty = (text) => make("p", { class: "empty" }, text);

  function numbers(runs) {
    const table = byId("numbers-table");
    const head = make("tr", {}, table.tHead.rows[0].cells[0]);
    runs.forEach((run, place) => head.append(make("th", { scope: "col" }, swatch(place), link(run))));
    table.tHead.replaceChildren(head);
    [...table.tBodies[0].rows].forEach((row, i) => {
      const cells = runs.map((run) => {
        const [text, interval, reason] = run.figures[i];
        if (reason) {
          const why = make("span", { class: "hide" }, ` not computed: ${reason}`);
          return make("td", { class: "num" }, make("span", { class: "missing", title: reason }, text, why));
        }
        const value = make("span", { class: "value" }, text);
        return make("td", { class: "num" }, value, interval && " ", interval && make("span", { class: "interval" }, interval));
      });
      row.replaceChildren(row.cells[0], ...cells);
    });
  }

  function curvePath(scores) {
    const ordered = [...scores].sort((a, b) => b - a);
    const heads = ordered.length;
    const places = new Set();
    for (let step = 0; step < POINTS; step += 1) {
      const rank = heads > 1 ? Math.exp((Math.log(heads) * step) / (POINTS - 1)) : 1;
      places.add(Math.min(Math.max(Math.round(rank), 1), heads));
    }
    const decades = -Math.log10(LEAST);
    const points = [...places].map((rank) => {
      const x = (Math.max(Math.log10(rank / heads), -decades) / decades + 1) * WIDTH;
      return `${x.toFixed(1)} ${(HEIGHT - Math.min(ordered[rank - 1] / NANO, 1) * HEIGHT).toFixed(1)}`;
    });
    return "M" + points.join("L");
  }

  function lines(runs) {
    const drawn = byId("lines");
    if (!drawn) return;
    drawn.replaceChildren(
      ...runs.flatMap((run, place) =>
        run.scores
          ? [
              make(
                "g",
                { class: `curve ${colour(place)}` },
                make("title", {}, run.label),
                make("path", { class: "line", d: curvePath(run.scores) }),
              ),
            ]
          : [],
      ),
    );
  }

  function tableOf(heads, rows) {
    const cell = (text, name, kind) => make(name, { ...(name === "th" ? { scope: kind } : { class: "num" }) }, text);
    return [
      make("thead", {}, make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", ...(i ? { class: "num" } : {}) }, text)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text, i) => cell(text, i ? "td" : "th", "row"))))),
    ];
  }

  function similarities(runs) {
    const rows = [];
    runs.forEach((first, i) => {
      for (const second of runs.slice(i + 1)) {
        if (!alike(first, second) || first.scores.length < 2) continue;
        const found = similarity(first, second).map(three);
        const names = make("span", {}, make("bdi", {}, first.label), " and ", make("bdi", {}, second.label));
        const beside = (value, by) => make("span", {}, value, " ", make("span", { class: "interval" }, `by chance ${by}`));
        rows.push([names, found[0], found[1], beside(found[2], found[4]), beside(found[3], found[5])]);
      }
    });
    const threshold = runs[0].threshold / NANO;
    const heads = ["Models", "Pearson", "Spearman", `Overlap above ${threshold}`, "Overlap of the top 10"];
    byId("similarity-box").replaceChildren(
      rows.length
        ? make(
            "div",
            { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "similarity" },
            make("table", { class: "alike" }, ...tableOf(heads, rows)),
          )
        : noPair(runs),
    );
  }

  const noPair = (runs) =>
    empty(runs.length < 2 ? "Choose at least two models." : "No two of these models have the same heads.");

  const scoreLevel = (nano) => (nano ? `v${Math.max(1, Math.ceil(Math.sqrt(Math.min(nano / NANO, 1)) * 24))}` : "");

  function differenceLevel(nano) {
    if (!nano) return "";
    const level = Math.max(1, Math.ceil(Math.sqrt(Math.min(Math.abs(nano) / NANO, 1)) * 8));
    return (nano > 0 ? "up" : "down") + level;
  }

  /** A map of all heads, which a pointer and the arrow keys can walk on; `say` has the words for the n-th head. */
  function headMap(run, levels, label, say) {
    const widest = Math.max(1, ...run.layers.map(([, heads]) => heads));
    const box = `0 0 ${MARGIN + widest * CELL} ${Math.max(run.depth, 1) * CELL}`;
    const wide = 2 * (MARGIN + widest * CELL);
    const map = make("svg", { class: "map", viewBox: box, width: wide, role: "img", tabindex: "0", "aria-label": label });
    const places = new Map();
    let place = 0;
    for (const [layer, heads] of run.layers) {
      const back = { class: "none", x: MARGIN, y: layer * CELL, width: heads * CELL, height: CELL };
      map.append(make("rect", back));
      for (let head = 0; head < heads; head += 1, place += 1) {
        places.set(`${layer},${head}`, place);
        if (!levels[place]) continue;
        const at = { class: levels[place], x: MARGIN + head * CELL, y: layer * CELL, width: CELL - 1, height: CELL - 1 };
        map.append(make("rect", at));
      }
    }
    const every = [1, 2, 4, 5, 10, 20, 50].find((step) => run.depth / step <= 12) || 100;
    for (let layer = 0; layer < run.depth; layer += every) {
      map.append(make("text", { x: MARGIN - 6, y: layer * CELL + CELL * 0.8 }, String(layer)));
    }
    walk(map, run, places, say);
    return map;
  }

  let cursors = [];

  function walk(map, run, places, say) {
    let at = null;
    const show = (layer, head) => {
      const place = places.get(`${layer},${head}`);
      if (place === undefined) return;
      at = [layer, head];
      readout(`Layer ${layer}, head ${head}: ${say(place)}`, run.grid, layer, head);
    };
    const point = (event) => {
      const box = map.getBoundingClientRect();
      const view = map.viewBox.baseVal;
      const scale = Math.min(box.width / view.width, box.height / view.height);
      const [left, top] = [(box.width - view.width * scale) / 2, (box.height - view.height * scale) / 2];
      const x = (event.clientX - box.left - left) / scale - MARGIN;
      const y = (event.clientY - box.top - top) / scale;
      show(Math.floor(y / CELL), Math.floor(x / CELL));
    };
    // A finger does not hover: what it touched stays until it touches elsewhere.
    map.addEventListener("pointermove", point);
    map.addEventListener("pointerdown", point);
    map.addEventListener("pointerleave", (event) => event.pointerType === "touch" || hideReadout());
    map.addEventListener("focus", () => at || show(...firstOf(run)));
    map.addEventListener("blur", hideReadout);
    map.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (event.key === "Escape") hideReadout();
      if (!step) return;
      event.preventDefault();
      const [layer, head] = at || firstOf(run);
      // Layers without heads are stepped over.
      for (let far = 1; far <= run.depth; far += 1) {
        const next = [layer + step[0] * far, head + step[1]];
        if (places.has(next.join(","))) {
          show(...next);
          break;
        }
        if (!step[0]) break;
      }
    });
    cursors.push({ map, grid: run.grid });
  }

  const firstOf = (run) => [run.layers[0] ? run.layers[0][0] : 0, 0];

  function readout(text, grid, layer, head) {
    hideReadout();
    byId("readout").textContent = text;
    byId("readout").hidden = false;
    const at = { class: "cursor", x: MARGIN + head * CELL, y: layer * CELL, width: CELL - 1, height: CELL - 1 };
    for (const cursor of cursors) if (cursor.grid === grid) cursor.map.append(make("rect", at));
  }

  function hideReadout() {
    byId("readout").hidden = true;
    for (const { map } of cursors) map.querySelector(".cursor")?.remove();
  }

  /** The score of a head with its interval, in every model that has the same heads. */
  function sayScores(runs, run) {
    const same = runs.filter((other) => alike(run, other));
    const interval = (other, place) =>
      other.low && other.high ? ` (${(other.low[place] / NANO).toFixed(3)}–${(other.high[place] / NANO).toFixed(3)})` : "";
    return (place) =>
      same.map((other) => `${other.label} ${(other.scores[place] / NANO).toFixed(3)}${interval(other, place)}`).join("; ");
  }

  function maps(runs) {
    byId("maps-box").replaceChildren(
      ...runs.map((run, place) =>
        make(
          "figure",
          {},
          make("figcaption", {}, swatch(place), link(run)),
          run.scores
            ? headMap(run, run.scores.map(scoreLevel), `Map of layers and heads: ${run.label}`, sayScores(runs, run))
            : empty("No scores: no sample counted."),
        ),
      ),
    );
  }

  /** Places of the base and the variant among the runs: those of the address, else a model and its
   *  base, else the first two with the same heads. */
  function pairOf(runs) {
    const wanted = (read().get("pair") || "").split(",").map((text) => Number.parseInt(text, 10) - 1);
    const fits = ([i, j]) => i !== j && runs[i] && runs[j] && alike(runs[i], runs[j]);
    if (wanted.length === 2 && fits(wanted)) return wanted;
    for (let j = 0; j < runs.length; j += 1) {
      for (let i = 0; i < runs.length; i += 1) if (runs[j].bases.includes(runs[i].model) && fits([i, j])) return [i, j];
    }
    for (let i = 0; i < runs.length; i += 1) {
      for (let j = i + 1; j < runs.length; j += 1) if (fits([i, j])) return [i, j];
    }
    return null;
  }

  function difference(runs) {
    const pair = pairOf(runs);
    byId("pair").hidden = !pair;
    if (!pair) {
      byId("difference-box").replaceChildren(noPair(runs));
      return;
    }
    const [base, variant] = pair.map((place) => runs[place]);
    for (const [id, chosen] of [["base", pair[0]], ["variant", pair[1]]]) {
      const able = runs.map((run, place) => ({ run, place })).filter(({ run }) => runs.some((other) => other !== run && alike(run, other)));
      byId(id).replaceChildren(...able.map(({ run, place }) => make("option", { value: place }, run.label)));
      byId(id).value = chosen;
    }
    const apart = variant.scores.map((score, place) => score - base.scores[place]);
    const say = (place) =>
      `${base.label} ${(base.scores[place] / NANO).toFixed(3)}, ${variant.label} ${(variant.scores[place] / NANO).toFixed(3)}, ` +
      `difference ${apart[place] ? signed(apart[place]) : "0"}`;
    const label = `Map of layers and heads: ${variant.label} minus ${base.label}`;
    const caption = make("figcaption", {}, make("bdi", {}, variant.label), " minus ", make("bdi", {}, base.label));
    const figure = make("figure", {}, caption, headMap(base, apart.map(differenceLevel), label, say), differenceKey());
    byId("difference-box").replaceChildren(make("div", { class: "difference" }, figure, changes(base, variant, apart)));
  }

  function differenceKey() {
    const levels = [["down8", "−1"], ["down6", "−0.5"], ["down3", "−0.1"], ["v0", "0"], ["up3", "0.1"], ["up6", "0.5"], ["up8", "1"]];
    const swatches = levels.map(([level, text]) => make("span", { class: "swatch" }, make("i", { class: level }), text));
    return make("p", { class: "key", "aria-hidden": "true" }, ...swatches);
  }

  function changes(base, variant, apart) {
    const names = base.layers.flatMap(([layer, heads]) => Array.from({ length: heads }, (_, head) => `(${layer}, ${head})`));
    const order = apart.map((_, i) => i).sort((a, b) => Math.abs(apart[b]) - Math.abs(apart[a]) || a - b);
    const rows = order
      .slice(0, CHANGES)
      .filter((i) => apart[i])
      .map((i) => [names[i], (base.scores[i] / NANO).toFixed(3), (variant.scores[i] / NANO).toFixed(3), signed(apart[i])]);
    if (!rows.length) return make("div", { class: "changes" }, empty("Every head scores the same in both."));
    const heads = ["(layer, head)", "Base", "Variant", "Difference"];
    const table = make("table", {}, make("caption", {}, "Heads that differ most"), ...tableOf(heads, rows));
    return make("div", { class: "changes" }, table);
  }

  /** What tells runs of different sets or protocols apart. */
  function differing(runs) {
    const apart = new Set(runs.map((run) => run.group)).size > 1;
    byId("differs").hidden = !apart;
    if (!apart) return;
    const shared = runs[0].facts.filter((fact) => runs.every((run) => run.facts.includes(fact)));
    byId("differs-list").replaceChildren(
      ...runs.map((run) => {
        const own = run.facts.filter((fact) => !shared.includes(fact)).join(", ");
        return make("li", {}, `${run.label}: ${own || "the same otherwise"}`);
      }),
    );
  }

  // --- Choosing ---

  let chosen = [];
  let turn = 0;

  const said = (text, wrong = false) => {
    byId("status").textContent = text;
    byId("status").classList.toggle("wrong", wrong);
  };

  function choose(keys) {
    write({ runs: keys.join(","), pair: null });
    show(keys);
  }

  async function show(keys) {
    turn += 1;
    const mine = turn;
    const found = await Promise.allSettled(keys.map(load));
    if (mine !== turn) return;
    const runs = found.filter((one) => one.status === "fulfilled").map((one) => one.value);
    const failures = found.filter((one) => one.status === "rejected").map((one) => one.reason.message);
    chosen = runs.map((run) => run.key);
    label(runs);
    chips(runs);
    if (!runs.length) {
      said([...failures, "Choose two to six models."].join(" "), failures.length > 0);
      return;
    }
    hideReadout();
    cursors = [];
    numbers(runs);
    lines(runs);
    similarities(runs);
    difference(runs);
    maps(runs);
    differing(runs);
    const more = runs.length < 2 ? "Add a second model to compare it with." : "";
    said([...failures, more].filter(Boolean).join(" "), failures.length > 0);
  }

  function chips(runs) {
    byId("chosen").replaceChildren(
      ...runs.map((run, place) => {
        const remove = make("button", { type: "button", "aria-label": `Remove ${run.label}` }, "×");
        remove.addEventListener("click", () => {
          choose(chosen.filter((key) => key !== run.key));
          byId("find").focus();
        });
        return make("li", {}, swatch(place), make("bdi", {}, run.label), remove);
      }),
    );
    byId("find").disabled = runs.length >= MOST;
    byId("find").placeholder = runs.length >= MOST ? "six at most" : "model, family or set";
  }

  /** Runs that fit the words typed. Those that may be compared with the first one chosen come first, and of them what
   *  it was derived from, and then what has as many heads. */
  function offers(text) {
    const words = text.toLocaleLowerCase("en").split(/\s+/).filter(Boolean);
    const first = chosen.length ? choices.get(chosen[0]) : null;
    const group = first && first.group;
    const bases = first && data.has(first.key) ? data.get(first.key).bases : [];
    const fits = [...choices.values()].filter(
      (run) => !chosen.includes(run.key) && words.every((word) => run.search.includes(word)),
    );
    const near = (run) => {
      if (!first) return 0;
      if (run.group !== group) return 3;
      return bases.includes(run.model) ? 0 : run.shape === first.shape ? 1 : 2;
    };
    return { group, found: fits.sort((a, b) => near(a) - near(b)) };
  }

  function offer() {
    const list = byId("found");
    const { group, found } = offers(byId("find").value);
    list.replaceChildren(
      ...found.slice(0, SHOWN).map((run) => {
        const other = group && run.group !== group ? " · different set, protocol or choice of samples" : "";
        const about = make("span", { class: "sub" }, `${run.family} · ${run.shape} heads · ${run.set} · ${run.share} above the threshold${other}`);
        const button = make("button", { type: "button", "data-key": run.key }, make("bdi", {}, run.model), about);
        button.addEventListener("click", () => {
          byId("find").value = "";
          list.hidden = true;
          choose([...chosen, run.key].slice(0, MOST));
          byId("find").focus();
          list.hidden = true;
        });
        return make("li", {}, button);
      }),
    );
    const left = found.length - SHOWN;
    if (left > 0) list.append(make("li", { class: "more" }, `${left} more: type to narrow the list`));
    if (!found.length) list.append(make("li", { class: "more" }, "No other run matches."));
    list.hidden = false;
  }

  /** Arrow keys walk between the field and the buttons of the list. */
  function walkOffers(event) {
    const buttons = [...byId("found").querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    if (event.key === "Escape") {
      byId("found").hidden = true;
      if (at >= 0) byId("find").focus();
      byId("found").hidden = true;
    } else if (event.key === "Enter" && at < 0 && buttons.length && !byId("found").hidden) {
      event.preventDefault();
      buttons[0].click();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (byId("found").hidden) offer();
      const next = at + (event.key === "ArrowDown" ? 1 : -1);
      if (next < 0) byId("find").focus();
      else [...byId("found").querySelectorAll("button")][next]?.focus();
    }
  }

  function fromAddress() {
    const wanted = (read().get("runs") || byId("picker").dataset.chosen).split(",").filter(Boolean);
    show([...new Set(wanted)].slice(0, MOST));
  }

  function start() {
    const picker = byId("picker");
    if (!picker) return;
    for (const line of picker.dataset.choices.split("\n").filter(Boolean)) {
      const [key, model, family, set, group, share, shape] = line.split("\t");
      const search = `${model} ${family} ${set}`.toLocaleLowerCase("en");
      choices.set(key, { key, model, family, set, group, share, shape, search });
    }
    picker.hidden = false;
    for (const item of document.querySelectorAll(".scripted")) item.hidden = false;
    byId("find").addEventListener("input", offer);
    byId("find").addEventListener("focus", offer);
    document.querySelector(".adding").addEventListener("keydown", walkOffers);
    document.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".adding")) byId("found").hidden = true;
    });
    document.querySelector(".adding").addEventListener("focusout", (event) => {
      if (event.relatedTarget && !event.relatedTarget.closest(".adding")) byId("found").hidden = true;
    });
    byId("pair").addEventListener("submit", (event) => event.preventDefault());
    byId("pair").addEventListener("change", (event) => {
      let [base, variant] = [Number(byId("base").value), Number(byId("variant").value)];
      const before = pairOf(chosen.map((key) => data.get(key)));
      if (base === variant && before) [base, variant] = [before[1], before[0]];
      write({ pair: `${base + 1},${variant + 1}` });
      cursors = cursors.filter(({ map }) => byId("maps-box").contains(map));
      difference(chosen.map((key) => data.get(key)));
      byId(event.target.id).focus();
    });
    window.addEventListener("hashchange", fromAddress);
    fromAddress();
  }

  document.addEventListener("DOMContentLoaded", start);
})();
