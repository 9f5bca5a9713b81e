"""Writes docs/api.md from the docstrings of the public names: `python docs/make_api.py`. A test holds the page to them.

A docstring is as the rest of the source writes them: a summary, paragraphs, `Args:`, `Returns:`, `Raises:`, and fenced
examples, which a test runs.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rh_bench as rh

PAGE = Path(__file__).with_name("api.md")
INTRODUCTION = """# Python

<!-- made by docs/make_api.py from the docstrings; do not edit -->

```python
import rh_bench as rh

run = rh.evaluate(model, tokenizer, haystack="sets/quick")  # in memory, or "org/name", a folder, gguf:file
run.heads  # a table: to pandas, polars, Arrow
with rh.ablate(model, run.top(10)):
    model.generate(**inputs)
```

These names are what users may rely on; every other module is internal and may change. They are imported when they are
first used: `import rh_bench` takes 0.03 to 0.1 s (a virtual machine with two busy cores of an Intel Xeon, Python 3.11)
and loads neither torch nor transformers nor NumPy. What is wrong is said in one line by an `InputError`.
[examples/retrieval_heads.ipynb](../examples/retrieval_heads.ipynb) is a notebook that uses most of this.

In the examples below, which are tests, `model`, `tokenizer` and `ids` are a transformers model, its tokenizer and the
token ids of a prompt; `run`, `runs`, `experiment`, `heads` and `haystacks` are what the functions give that make them;
`folder` is the folder of a run or an experiment, and `imported` that of an import.
"""
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^(Args|Returns|Raises):$")
_FRAMEWORK = ("of", "read")
"""Public by their name, but how the package makes such an object, not how its user does."""


def render() -> str:
    """The page."""
    names = list(rh._HOMES)
    listed = "\n".join(f"* [`rh.{name}`](#rh{name.lower()}): {summary(getattr(rh, name))}" for name in names)
    parts = [INTRODUCTION, listed + "\n"]
    parts += [_entry(name, getattr(rh, name)) for name in names]
    return "\n".join(parts)


def examples() -> Iterator[tuple[str, str]]:
    """(name, code) of every example on the page."""
    for name in rh._HOMES:
        value = getattr(rh, name)
        docs = [(name, _doc(value))]
        if inspect.isclass(value):
            docs += [(f"{name}.{member}", _doc(getattr(value, member))) for member in _members(value)]
        for title, doc in docs:
            for number, code in enumerate(_FENCE.findall(doc)):
                yield title + ("" if number == 0 else f" ({number + 1})"), code


def summary(value: Any) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join(_doc(value).split("\n\n")[0].split())


def _entry(name: str, value: Any) -> str:
    if not inspect.isclass(value):
        return f"## rh.{name}\n\n```python\n{_signature(name, value)}\n```\n\n{_text(_doc(value))}\n"
    parts = [f"## rh.{name}\n\n{_text(_doc(value))}\n"]
    fields = [(field, kind, doc) for field, kind, doc in _fields(value) if not field.startswith("_")]
    if fields:
        rows = [f"* `{field}: {kind}`" + (f": {doc}" if doc else "") for field, kind, doc in fields]
        parts.append("\n".join(rows) + "\n")
    for member in _members(value):
        found = inspect.getattr_static(value, member)
        if callable(getattr(found, "__func__", found)) and not hasattr(found, "func"):
            head = f"### {name}.{member}\n\n```python\n{_signature(member, getattr(value, member))}\n```"
        else:
            head = f"### {name}.{member}"
        parts.append(f"{head}\n\n{_text(_doc(getattr(value, member)))}\n")
    return "\n".join(parts)


def _doc(value: Any) -> str:
    if isinstance(value, property):
        value = value.fget
    if hasattr(value, "func"):  # a cached property
        value = value.func
    return inspect.getdoc(value) or ""


def _members(cls: type) -> list[str]:
    """Public methods and properties that a class of ours defines, in the order of its source."""
    if issubclass(cls, Exception):
        return []
    fields = {field for field, _, _ in _fields(cls)}
    kinds = (property, classmethod, staticmethod)
    return [
        name
        for name in vars(cls)
        if not name.startswith("_")
        and name not in (*fields, *_FRAMEWORK)
        and (
            inspect.isfunction(vars(cls)[name])
            or isinstance(vars(cls)[name], kinds)
            or hasattr(vars(cls)[name], "func")
        )
    ]


def _fields(cls: type) -> list[tuple[str, str, str]]:
    """(name, type, words) of the fields of a dataclass; a text after a field is what is said of it."""
    if not hasattr(cls, "__dataclass_fields__"):
        return []
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    found = []
    for place, one in enumerate(node.body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            after = node.body[place + 1] if place + 1 < len(node.body) else None
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            found.append((one.target.id, ast.unparse(one.annotation), " ".join(str(said).split())))
    return found


def _signature(name: str, value: Any) -> str:
    """The call as its source has it: one argument a line where it is long."""
    signature = inspect.signature(value)
    parameters = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    returns = signature.return_annotation
    words = str(returns).strip("'\"") if returns is not inspect.Signature.empty else ""
    if words.startswith("Iterator[") and hasattr(value, "__wrapped__"):
        words = f"context manager of {words[9:-1]}"
    shown = [re.sub(r": '([^']*)'", r": \1", str(one)) for one in parameters]
    first = next((i for i, one in enumerate(parameters) if one.kind is one.KEYWORD_ONLY), None)
    if first is not None:
        shown.insert(first, "*")
    line = f"{name}({', '.join(shown)})" + (f" -> {words}" if words else "")
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + ")" + (f" -> {words}" if words else "")


def _text(doc: str) -> str:
    """A docstring as Markdown: sections as lists, examples as they are."""
    blocks, out = re.split(r"(^```python\n.*?^```$)", doc, flags=re.MULTILINE | re.DOTALL), []
    for block in blocks:
        out.append(block if block.startswith("```") else _sections(block).strip("\n"))
    return "\n\n".join(one for one in out if one)


def _sections(text: str) -> str:
    lines, out, inside = text.splitlines(), [], False
    for line in lines:
        if _SECTION.match(line):
            inside = True
            out.append(f"**{line[:-1]}**\n")
        elif inside and line.startswith("    "):
            body = line[4:]
            if body.startswith(" "):
                out.append(f"  {body.strip()}")
            elif re.match(r"^[\w, ]+: ", body):
                head, _, rest = body.partition(": ")
                out.append(f"* `{head}`: {rest}")
            else:
                out.append(body)
        else:
            inside = inside and not line.strip()
            out.append(line)
    return "\n".join(out)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE}: {PAGE.stat().st_size} bytes", file=sys.stderr)
