"""Where a task's questions come from: files, the Hub at a commit, our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import LoopbackHub

from rh_bench.data_builders.tasks import load_task
from rh_bench.errors import InputError

# The Hub is named by the environment, which its clients read when they are imported: so in a process of its own.
LOAD = """
import json, sys
from rh_bench.data_builders.tasks import load_task
from rh_bench.errors import InputError
try:
    data = load_task(*sys.argv[1:])
except InputError as error:
    sys.exit(f"refused: {error}")
print(json.dumps([data.source, [[q.item_id, q.question, q.answers, q.choices, q.passage] for q in data.questions]]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A Hub with small data sets in the layout of the official ones."""
    root = tmp_path_factory.mktemp("hub")
    gsm8k = [{"question": "Two and three?", "answer": "2+3=5\n#### 5"}]
    mmlu = [{"question": "Which?", "subject": "virology", "choices": ["w", "x", "y", "z"], "answer": 2}]
    squad = [
        {
            "id": "q1", "title": "Ulm", "context": "Ulm is on the Danube.", "question": "Where?",
            "answers": {"text": ["on the Danube"], "answer_start": [7]},
        }
    ]  # fmt: skip
    with LoopbackHub() as server:
        for repo, rows, config, split in (
            ("org/gsm8k", gsm8k, "main", "test"),
            ("org/mmlu", mmlu, "all", "test"),
            ("org/squad", squad, "default", "validation"),
        ):
            folder = root / repo
            (folder / config).mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows), folder / config / f"{split}-00000-of-00001.parquet")
            card = [
                "---", "configs:", f"- config_name: {config}", "  data_files:", f"  - split: {split}",
                f"    path: {config}/{split}-*", "---", "",
            ]  # fmt: skip
            (folder / "README.md").write_text("\n".join(card))
            server.add("datasets", repo, folder)
        yield server


def load(hub: LoopbackHub, tmp_path: Path, task: str, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD, task, text],
        env=hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "repo", "name", "row"),
    [
        ("gsm8k", "org/gsm8k", "org/gsm8k#main/test", ["gsm8k-0", "Two and three?", ["5"], [], ""]),
        ("mmlu", "org/mmlu", "org/mmlu#all/test", ["virology-0", "Which?", ["C"], ["w", "x", "y", "z"], ""]),
        (
            "extractive", "org/squad", "org/squad#default/validation",
            ["q1", "Where?", ["on the Danube"], [], "Ulm is on the Danube."],
        ),
    ],
)  # fmt: skip
def test_questions_come_from_the_hub_at_a_commit(
    hub: LoopbackHub, tmp_path: Path, task: str, repo: str, name: str, row: list[object]
) -> None:
    done = load(hub, tmp_path, task, f"{repo}@main")
    assert done.returncode == 0, done.stderr
    source, rows = json.loads(done.stdout)
    assert rows == [row]
    commit = hub.repo("datasets", repo).branches["main"]
    assert source["name"] == name and source["revision"] == commit and len(source["sha256"]) == 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        ("gsm8k", "org/none@main", "no dataset org/none"),
        ("gsm8k", "org/gsm8k@v9", "no revision 'v9'"),
        ("gsm8k", "org/gsm8k@main#main/train", "cannot be streamed"),
        ("musique", "org/gsm8k@main#main/test", "hub:org/gsm8k, row 0: field 'paragraphs'"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(
    hub: LoopbackHub, tmp_path: Path, task: str, text: str, said: str
) -> None:
    done = load(hub, tmp_path, task, text)
    assert done.returncode == 1 and said in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("refused: ")] != []


@pytest.mark.slow
def test_files_and_synthetic_pairs(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "?", "answer": "so\\n#### 3"}\n')
    assert load_task("gsm8k", str(tmp_path / "q.jsonl")).questions[0].answers == ("3",)
    assert load_task("extractive", "synthetic") == load_task("extractive", "synthetic:0")
    assert load_task("extractive", "synthetic:4").source["name"].startswith("synthetic-pairs:4 ")
    with pytest.raises(InputError, match="no synthetic questions for this task"):
        load_task("gsm8k", "synthetic")
    with pytest.raises(InputError, match="there is no such file"):
        load_task("gsm8k", "openai/gsm8k")
    with pytest.raises(InputError, match="unknown task"):
        load_task("poetry", "org/name@main")
