// One set or all, one family in front, and another measure in the agreement tables. The page is complete without it.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const read = () => new URLSearchParams(location.hash.slice(1));

  function write(name, value) {
    const params = read();
    if (!location.hash.includes("=")) [...params.keys()].forEach((key) => params.delete(key));
    if (value) params.set(name, value);
    else params.delete(name);
    const hash = params.toString();
    history.replaceState(null, "", location.pathname + location.search + (hash ? "#" + hash : ""));
  }

  /** The group alone that was chosen; unknown names choose all. */
  function showGroup(name) {
    const groups = [...document.querySelectorAll(".group")];
    const known = groups.some((group) => group.dataset.group === name);
    for (const group of groups) group.hidden = known && group.dataset.group !== name;
    byId("group").value = known ? name : "";
  }

  /** Everything that belongs to another family steps back. */
  function showFamily(name) {
    const known = [...byId("family").options].some((option) => option.value === name);
    const chosen = known ? name : "";
    byId("family").value = chosen;
    for (const group of document.querySelectorAll(".group")) {
      // Where families stand for many models, one without a colour of its own is among the others.
      const drawn = [...group.querySelectorAll(".legend [data-family]")].some((item) => item.dataset.family === chosen);
      const names = drawn ? [chosen] : [chosen, group.dataset.others];
      for (const item of group.querySelectorAll("[data-family]")) {
        item.classList.toggle("faded", chosen !== "" && !names.includes(item.dataset.family));
      }
    }
    const runs = byId("family").selectedOptions[0].dataset.runs;
    byId("shown").textContent = chosen ? `${runs} ${runs === "1" ? "run" : "runs"} of ${chosen}, in front` : "";
  }

  /** The class of the colour scale, as the build chose it: linear over [0, 1]. */
  const level = (value) => (value <= 0 ? "v0" : `v${Math.max(1, Math.ceil(Math.min(value, 1) * 24))}`);

  function showMeasure(name) {
    for (const table of document.querySelectorAll(".matrix")) {
      const data = JSON.parse(table.dataset.measures);
      [...table.tBodies[0].rows].forEach((row, i) => {
        [...row.cells].slice(1).forEach((cell, j) => {
          if (i === j) return;
          const value = data[name || (i < j ? "spearman" : "jaccard")][i][j];
          cell.className = value === null ? "none" : level(value);
          cell.textContent = value === null ? "–" : value.toFixed(2);
        });
      });
    }
    for (const select of document.querySelectorAll(".pick-measure")) select.value = name;
  }

  /** A model's curve stands out while its row or its tile is pointed at or has the focus, and the other way round. */
  function light(event) {
    const at = event.target.closest("[data-of]");
    const group = at && at.closest(".group");
    for (const item of document.querySelectorAll(".lit")) item.classList.remove("lit");
    if (!group || event.type === "focusout") return;
    for (const item of group.querySelectorAll("[data-of]")) {
      item.classList.toggle("lit", item.dataset.of === at.dataset.of);
    }
  }

  function fromAddress() {
    const params = read();
    showGroup(params.get("group") || "");
    showFamily(params.get("family") || "");
    const measure = params.get("measure") || "";
    showMeasure(["spearman", "pearson", "jaccard", "top"].includes(measure) ? measure : "");
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = byId("filters");
    if (!form) return;
    form.hidden = false;
    for (const item of document.querySelectorAll(".measure, .scripted")) item.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      write(event.target.id, event.target.value);
      fromAddress();
    });
    for (const select of document.querySelectorAll(".pick-measure")) {
      select.addEventListener("change", () => {
        write("measure", select.value);
        fromAddress();
      });
    }
    for (const type of ["pointerover", "focusin", "focusout"]) document.addEventListener(type, light);
    window.addEventListener("hashchange", fromAddress);
    fromAddress();
  });
})();
