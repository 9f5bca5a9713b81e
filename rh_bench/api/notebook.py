"""HTML for notebooks. Names and texts may come from anyone's file, and are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_LONGEST = 120


def table_html(columns: Sequence[str], rows: Sequence[Mapping[str, object]], total: int) -> str:
    """A table of some rows, and how many more there are."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(row[name]))}</td>" for name in columns) + "</tr>" for row in rows
    )
    more = f"<p>{len(rows)} of {total} rows</p>" if total > len(rows) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def facts_html(title: str, facts: Sequence[tuple[str, str]], notes: Sequence[str] = ()) -> str:
    """A title, a few facts, and notes."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(cell(value))}</td></tr>" for name, value in facts)
    listed = "".join(f"<li>{escape(cell(note))}</li>" for note in notes)
    return f"<h4>{escape(cell(title))}</h4><table>{lines}</table>" + (f"<ul>{listed}</ul>" if listed else "")


def cell(value: object) -> str:
    """A value as text: numbers to four places, None as a dash, long texts cut."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
