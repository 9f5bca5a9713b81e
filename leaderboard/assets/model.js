// The heat map: what a cell holds, the threshold that marks cells, and the list of all heads. The numbers lie in the
// table's own attributes, one list a measure with an entry a cell; leaderboard/heat.py says which.
"use strict";

(() => {
  const { state, sorting, theme, tip } = globalThis.site;

  const thousandths = (number) => (number / 1000).toFixed(3);
  const percent = (tenths) => (tenths === 1000 ? "100%" : tenths === 0 ? "0%" : (tenths / 10).toFixed(1) + "%");
  const range = (low, high, form) => (low === null ? "" : `${form(low)}–${form(high)}`);

  const heat = {
    table: null,
    cells: [],
    /** One object a cell, null where the list has no number. */
    read() {
      const names = ["exact", "score", "low", "high", "rank", "rankLow", "rankHigh", "active", "value"];
      const lists = names.map((name) => heat.table.dataset[name]?.split(",") ?? []);
      const cells = heat.table.querySelectorAll("tbody td:not(.absent, .unscored)");
      heat.cells = [...cells].map((element, place) => {
        const cell = { element, layer: Number(element.parentElement.cells[0].dataset.layer), head: element.cellIndex - 1 };
        names.forEach((name, i) => (cell[name] = lists[i][place] ? Number(lists[i][place]) : null));
        return cell;
      });
    },
    facts(cell) {
      const facts = [`Layer ${cell.layer}, head ${cell.head}`];
      const word = heat.table.dataset.word || "Score";
      if (cell.value !== null) facts.push(`${word} ${cell.value}`);
      else if (cell.exact === null) facts.push(heat.table.dataset.missing || "No score: no sample counted");
      else {
        const interval = range(cell.low, cell.high, thousandths);
        facts.push(`${word} ${thousandths(cell.score)}${interval && ` (${interval})`}`);
      }
      const ranks = range(cell.rankLow, cell.rankHigh, String);
      if (cell.rank !== null) facts.push(`Rank ${cell.rank}${ranks && ` (${ranks})`}`);
      if (cell.active !== null) facts.push(`Copies in ${percent(cell.active)} of counted samples`);
      return facts;
    },
    /** The cell that a key leads to, or null. Rows without heads are stepped over. */
    step(element, key) {
      const row = element.parentElement;
      const usable = (other) => (other && "tip" in other.dataset ? other : null);
      if (key === "ArrowLeft") return usable(element.previousElementSibling);
      if (key === "ArrowRight") return usable(element.nextElementSibling);
      if (key === "Home") return row.querySelector("td[data-tip]");
      if (key === "End") return [...row.querySelectorAll("td[data-tip]")].at(-1);
      const side = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[key];
      if (!side) return null;
      for (let other = row[side]; other; other = other[side]) {
        const found = usable(other.cells[element.cellIndex]);
        if (found) return found;
      }
      return null;
    },
    label() {
      for (const cell of heat.cells) {
        const facts = heat.facts(cell);
        cell.element.dataset.tip = facts.join("\n");
        cell.element.setAttribute("aria-label", facts.join(", "));
        cell.element.tabIndex = -1;
        const link = cell.element.querySelector("a");
        if (link) link.tabIndex = -1;
      }
      const first = heat.table.querySelector("td.above") || heat.cells[0]?.element;
      if (first) first.tabIndex = 0;
    },
    point(element) {
      if (element && "tip" in element.dataset) tip.show(element.dataset.tip, element.getBoundingClientRect());
      else tip.hide();
    },
    onKey(event) {
      if (event.key === "Escape") tip.hide();
      const element = event.target.closest("td");
      if (event.key === "Enter") element?.querySelector("a")?.click();
      const next = element && heat.step(element, event.key);
      if (!next) return;
      event.preventDefault();
      element.tabIndex = -1;
      next.tabIndex = 0;
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: "nearest", inline: "nearest" });
    },
    start() {
      heat.table = document.querySelector("table.heat");
      if (!heat.table) return;
      heat.read();
      heat.label();
      heat.table.setAttribute("role", "grid");
      const over = (event) => heat.point(event.target.closest("td"));
      heat.table.addEventListener("pointerover", over);
      heat.table.addEventListener("pointerleave", tip.hide);
      heat.table.addEventListener("focusin", over);
      heat.table.addEventListener("focusout", tip.hide);
      // Scrolling leaves the mouse over another cell, but a cell with the focus keeps its note.
      const follow = () => heat.point(document.activeElement.closest("table.heat td"));
      window.addEventListener("scroll", follow, { capture: true, passive: true });
      heat.table.addEventListener("keydown", heat.onKey);
    },
  };

  const threshold = {
    input: null,
    writing: 0,
    /** Mark the heads above the threshold, say how many there are, and move the line in the chart of ranks. */
    apply(text) {
      const least = Math.round(Number(text) * 1e9);
      let above = 0;
      for (const cell of heat.cells) {
        const marked = cell.exact !== null && cell.exact > least;
        cell.element.classList.toggle("above", marked);
        above += marked;
      }
      document.getElementById("cut").textContent = text;
      const all = heat.cells.length;
      const strong = document.createElement("strong");
      strong.textContent = above;
      const share = percent(Math.round((above / all) * 1000));
      const said = document.getElementById("above");
      said.replaceChildren(strong, ` of ${all.toLocaleString("en")} heads (${share}) ${said.dataset.verb} ${text}`);
      threshold.line(Number(text), above, all);
    },
    line(value, above, all) {
      const chart = document.getElementById("by-rank");
      if (!chart) return;
      const line = chart.querySelector(".threshold");
      const dot = chart.querySelector(".dot");
      const height = Number(chart.dataset.height);
      const y = height - Math.min(value / Number(chart.dataset.top), 1) * height;
      line.setAttribute("y1", y);
      line.setAttribute("y2", y);
      dot.setAttribute("cy", y);
      dot.setAttribute("visibility", above ? "visible" : "hidden");
      const decades = Math.max(Math.log10(all), 0.3);
      dot.setAttribute("cx", (Math.log10(above || 1) / decades) * Number(line.getAttribute("x2")));
    },
    fromState() {
      const wanted = Number.parseFloat(state.read().get("t"));
      threshold.input.value = wanted >= 0 && wanted <= 1 ? wanted : threshold.input.dataset.paper;
      threshold.apply(threshold.input.value);
    },
    start() {
      threshold.input = document.getElementById("threshold");
      if (!threshold.input || !heat.table) return;
      threshold.input.addEventListener("input", () => {
        const text = threshold.input.value;
        threshold.apply(text);
        // Browsers refuse an address that changes with every pixel.
        clearTimeout(threshold.writing);
        threshold.writing = setTimeout(() => {
          state.write("t", text === threshold.input.dataset.paper ? null : text);
        }, 150);
      });
      window.addEventListener("hashchange", threshold.fromState);
      threshold.fromState();
    },
  };

  const list = {
    cell(kind, text, key, interval) {
      const made = document.createElement(kind);
      made.append(text);
      if (kind === "td") made.className = "num";
      else made.scope = "row";
      made.dataset.sort = key ?? "";
      if (interval) {
        const small = document.createElement("span");
        small.className = "interval";
        small.textContent = interval;
        made.append(" ", small);
      }
      return made;
    },
    row(cell, place) {
      const row = document.createElement("tr");
      const name = `${cell.layer}.${cell.head}`;
      row.append(
        list.cell("td", cell.rank ?? "–", cell.rank, range(cell.rankLow, cell.rankHigh, String)),
        list.cell("th", name, cell.layer * 100000 + cell.head),
        list.cell("td", thousandths(cell.score), cell.exact / 1e9, range(cell.low, cell.high, thousandths)),
        list.cell("td", cell.active === null ? "–" : percent(cell.active), (cell.active ?? 0) / 1000),
      );
      row.dataset.place = place;
      return row;
    },
    /** The heads that the page does not list, after those that it does, in the same order. */
    showAll(button) {
      const body = document.querySelector("table.heads tbody");
      const listed = new Set([...body.rows].map((row) => row.cells[1].textContent));
      const rest = heat.cells.filter((cell) => cell.exact !== null && !listed.has(`${cell.layer}.${cell.head}`));
      rest.sort((a, b) => b.exact - a.exact || a.layer - b.layer || a.head - b.head);
      body.append(...rest.map((cell, place) => list.row(cell, listed.size + place)));
      sorting.fromState();
      button.remove();
    },
    start() {
      const button = document.getElementById("all-heads");
      if (!button) return;
      button.hidden = false;
      button.addEventListener("click", () => list.showAll(button));
    },
  };

  const copying = {
    start() {
      const button = document.getElementById("copy");
      if (!button || !navigator.clipboard) return;
      button.hidden = false;
      button.addEventListener("click", async () => {
        const said = document.getElementById("copied");
        try {
          await navigator.clipboard.writeText(document.getElementById("command").textContent);
          said.textContent = "Copied.";
        } catch {
          said.textContent = "The browser did not allow it.";
        }
      });
    },
  };

  document.addEventListener("DOMContentLoaded", () => {
    copying.start();
    heat.start();
    threshold.start();
    list.start();
    for (const hint of document.querySelectorAll(".scripted")) hint.hidden = false;
    theme.label(document.getElementById("theme"));
  });
})();
