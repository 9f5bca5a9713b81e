// Light and dark, tables that sort, and the note that follows the mouse. The pages are complete without it.
// What the reader chose lives in the address after the #, so that a link or a reload brings it back. Scripts of single
// pages keep theirs there, too, with `site.state`.
"use strict";

(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  /** The address after the #: a place in the page, if it begins with a name without a value, then what was chosen. */
  const state = {
    place() {
      const first = location.hash.slice(1).split("&")[0];
      return first.includes("=") ? "" : first;
    },
    read() {
      return new URLSearchParams(location.hash.slice(1 + state.place().length));
    },
    write(name, value) {
      const params = state.read();
      if (value) params.set(name, value);
      else params.delete(name);
      const hash = [state.place(), params.toString()].filter(Boolean).join("&");
      history.replaceState(null, "", location.pathname + location.search + (hash ? "#" + hash : ""));
    },
    /** A browser finds a place by itself only where nothing else stands in the address. */
    go() {
      if (state.place() && location.hash.includes("&")) document.getElementById(state.place())?.scrollIntoView();
    },
  };

  const theme = {
    chosen() {
      const name = state.read().get("theme");
      return name === "light" || name === "dark" ? name : null;
    },
    now() {
      return theme.chosen() || (system.matches ? "dark" : "light");
    },
    /** Colours at once, in the head, so that a dark page never flashes white. */
    paint() {
      if (theme.chosen()) root.dataset.theme = theme.chosen();
      else delete root.dataset.theme;
    },
    label(button) {
      button.textContent = theme.now() === "dark" ? "Light theme" : "Dark theme";
    },
    /** A link to another page carries the choice there, beside what its own address says, just before it is followed. */
    carry(event) {
      const link = event.target.closest && event.target.closest("a[href*='.html']");
      if (!link) return;
      const place = link.hash.slice(1).split("&")[0].includes("=") ? "" : link.hash.slice(1).split("&")[0];
      const params = new URLSearchParams(link.hash.slice(1 + place.length));
      if (theme.chosen()) params.set("theme", theme.chosen());
      else params.delete("theme");
      link.hash = [place, params.toString()].filter(Boolean).join("&");
    },
    start() {
      const button = document.getElementById("theme");
      button.hidden = false;
      button.addEventListener("click", () => {
        const next = theme.now() === "dark" ? "light" : "dark";
        state.write("theme", next === (system.matches ? "dark" : "light") ? null : next);
        theme.paint();
        theme.label(button);
      });
      system.addEventListener("change", () => theme.label(button));
      for (const type of ["pointerdown", "focusin", "click"]) document.addEventListener(type, theme.carry, true);
      theme.label(button);
    },
  };

  const sorting = {
    /** What a cell sorts by: its data-sort, else its text. Missing is null. */
    key(cell, numeric) {
      const text = (cell.dataset.sort ?? cell.textContent).trim();
      if (!numeric) return text === "" ? null : text.toLocaleLowerCase("en");
      const value = Number.parseFloat(text);
      return Number.isNaN(value) ? null : value;
    },
    apply(table, name, descending) {
      const headers = [...table.tHead.rows[0].cells];
      const column = headers.findIndex((header) => header.dataset.key === name);
      if (column < 0) return;
      const numeric = "numeric" in headers[column].dataset;
      const compare = (a, b) => {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
        const order = a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
        return (descending ? -order : order) || a.place - b.place;
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => ({
        row,
        key: sorting.key(row.cells[column], numeric),
        place: Number(row.dataset.place),
      }));
      body.append(...rows.sort(compare).map((entry) => entry.row));
      for (const header of headers) header.removeAttribute("aria-sort");
      headers[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    },
    fromState() {
      const wanted = state.read().get("sort");
      if (!wanted) return;
      for (const table of document.querySelectorAll("table[data-sortable]")) {
        sorting.apply(table, wanted.replace(/^-/, ""), wanted.startsWith("-"));
      }
    },
    start() {
      for (const table of document.querySelectorAll("table[data-sortable]")) {
        [...table.tBodies[0].rows].forEach((row, place) => (row.dataset.place = place));
        for (const header of table.tHead.rows[0].cells) {
          const button = document.createElement("button");
          button.type = "button";
          button.append(...header.childNodes);
          header.append(button);
          button.addEventListener("click", () => {
            const now = header.getAttribute("aria-sort");
            const first = "numeric" in header.dataset ? "descending" : "ascending";
            const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
            state.write("sort", (next === "descending" ? "-" : "") + header.dataset.key);
            sorting.fromState();
          });
        }
      }
      sorting.fromState();
    },
  };

  /** A note beside what it is about, and always inside the window. */
  const tip = {
    show(text, at) {
      const box = document.getElementById("tip");
      box.textContent = text;
      box.hidden = false;
      const size = box.getBoundingClientRect();
      const left = Math.min(at.left + at.width / 2 - size.width / 2, innerWidth - size.width - 8);
      const above = at.top - size.height - 8;
      box.style.left = `${Math.max(left, 8)}px`;
      box.style.top = `${above < 8 ? at.bottom + 8 : above}px`;
    },
    hide() {
      document.getElementById("tip").hidden = true;
    },
  };

  // What the scripts of single kinds of pages build on.
  globalThis.site = Object.freeze({ state, sorting, theme, tip });

  theme.paint();
  document.addEventListener("DOMContentLoaded", () => {
    theme.start();
    state.go();
    sorting.start();
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    });
    window.addEventListener("hashchange", () => {
      state.go();
      theme.paint();
      theme.label(document.getElementById("theme"));
      sorting.fromState();
    });
  });
})();
