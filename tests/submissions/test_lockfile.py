"""Pinned packages: what pip's hash-checking mode takes, and what does not pin."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rh_bench
from rh_bench.errors import InputError
from rh_bench.submissions.lockfile import read_lockfile

A, B = "a" * 64, "b" * 64
OURS = f"rh-bench=={rh_bench.__version__} --hash=sha256:{A}"


def read(folder: Path, text: str) -> str:
    (folder / "requirements.txt").write_bytes(text.encode())
    return read_lockfile(folder / "requirements.txt")


def test_what_tools_write_is_read(tmp_path: Path) -> None:
    text = f"""# made by a tool
numpy==2.4.6 ; python_version >= "3.11" \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via rh-bench
rh_bench[evaluate] @ https://files.example.org/rh_bench-1.0-py3-none-any.whl --hash=sha256:{A}  # a wheel

torch==2.13.0+cpu --hash=sha256:{B}
"""
    assert read(tmp_path, text).splitlines() == [
        f'numpy==2.4.6 ; python_version >= "3.11" --hash=sha256:{A} --hash=sha256:{B}',
        f"rh_bench[evaluate] @ https://files.example.org/rh_bench-1.0-py3-none-any.whl --hash=sha256:{A}",
        f"torch==2.13.0+cpu --hash=sha256:{B}",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("numpy", "does not pin"),
        ("numpy==2.0", "does not pin"),
        (f"numpy>=2.0 --hash=sha256:{A}", "does not pin"),
        (f"numpy==2.* --hash=sha256:{A}", "does not pin"),
        ("numpy==2.0 --hash=md5:" + "a" * 32, "does not pin"),
        (f"numpy==2.0 --hash=sha256:{A[:-1]}", "does not pin"),
        (f"numpy @ http://x.org/n.whl --hash=sha256:{A}", "does not pin"),
        (f"numpy @ https://x.org/n.tar.gz --hash=sha256:{A}", "does not pin"),
        (f"numpy @ https://me:pw@x.org/n.whl --hash=sha256:{A}", "a password or a query"),
        (f"numpy @ https://x.org/n?t=1.whl --hash=sha256:{A}", "a password or a query"),
        ("--index-url https://x.org", "does not pin"),
        ("-e .", "does not pin"),
        ("-r other.txt", "does not pin"),
        (f"a==1 --hash=sha256:{A} b==1 --hash=sha256:{A}", "does not pin"),
        (f"rh-bench==99 --hash=sha256:{A}", "pins rh-bench 99"),
        ("numpy==2.0 \\", "does not pin"),
    ],
)
def test_what_does_not_pin_is_one_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read(tmp_path, f"{OURS}\n{line}\n")
    assert "requirements.txt, line 2: " in str(error.value) and "pw" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for text, words in (("", "does not pin rh-bench"), (f"numpy==2.0 --hash=sha256:{A}\n", "does not pin rh-bench")):
        with pytest.raises(InputError, match=words):
            read(tmp_path, text)
    long = "".join(f"n{place}==1 --hash=sha256:{A}\n" for place in range(2_000))
    with pytest.raises(InputError, match="at most 120000 are allowed"):
        read(tmp_path, f"{OURS}\n{long}")
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(InputError, match="UTF-8"):
        read_lockfile(tmp_path / "x")
    with pytest.raises(InputError, match="cannot be read"):
        read_lockfile(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("lock")
    try:
        found = read(folder, f"{OURS}\n{text}\n")
    except (InputError, UnicodeEncodeError) as error:
        assert "\n" not in str(error)
    else:
        assert all(" --hash=sha256:" in line for line in found.splitlines())
