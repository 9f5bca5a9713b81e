// The squares of each head's grid: which samples lie there, and how much of each the head copied. The samples lie once
// in an attribute of the list of heads, what was copied in one of each grid; leaderboard/head_page.py says how.
"use strict";

(() => {
  const { state, tip } = globalThis.site;
  let samples = [];
  let names = {};

  const read = () => {
    const data = document.getElementById("panels").dataset;
    names = { needles: JSON.parse(data.needles), lengths: data.lengths.split("|"), depths: data.depths.split("|") };
    samples = data.samples.split(";").map((text, place) => {
      const [needle, length, depth, span] = text.split(",").map(Number);
      return { place, needle, length, depth, span };
    });
    return Number(data.digits);
  };

  /** What a square says: its place, then a line a sample. */
  const say = (grid, digits, length, depth) => {
    const inside = samples.filter((sample) => sample.length === length && sample.depth === depth);
    const lines = inside.map((sample) => {
      const code = grid.dataset.copied.slice(sample.place * digits, (sample.place + 1) * digits);
      const needle = names.needles[sample.needle];
      if (code.startsWith("-")) return `${needle}: does not count`;
      return `${needle}: ${Number.parseInt(code, 36)} of ${sample.span} tokens`;
    });
    if (lines.length > 12) lines.splice(12, Infinity, `and ${inside.length - 12} more`);
    return [`${names.lengths[length]} tokens, depth ${names.depths[depth]}`, ...lines].join("\n");
  };

  const point = (event, digits) => {
    const grid = event.currentTarget;
    const box = grid.getBoundingClientRect();
    const columns = names.lengths.length;
    const rows = names.depths.length;
    const length = Math.min(Math.floor(((event.clientX - box.left) / box.width) * columns), columns - 1);
    const depth = Math.min(Math.floor(((event.clientY - box.top) / box.height) * rows), rows - 1);
    const at = { left: box.left + (length * box.width) / columns, width: box.width / columns };
    at.top = box.top + (depth * box.height) / rows;
    at.bottom = at.top + box.height / rows;
    if (length >= 0 && depth >= 0) tip.show(say(grid, digits, length, depth), at);
  };

  /** Where the address names a head beside other things, the browser does not find it by itself. */
  const mark = () => {
    for (const panel of document.querySelectorAll(".panel.here")) panel.classList.remove("here");
    document.getElementById(state.place())?.classList.add("here");
  };

  document.addEventListener("DOMContentLoaded", () => {
    const digits = read();
    for (const grid of document.querySelectorAll(".grid svg")) {
      grid.addEventListener("pointermove", (event) => point(event, digits));
      grid.addEventListener("pointerleave", tip.hide);
    }
    window.addEventListener("scroll", tip.hide, { capture: true, passive: true });
    window.addEventListener("hashchange", mark);
    mark();
    for (const hint of document.querySelectorAll(".scripted")) hint.hidden = false;
  });
})();
