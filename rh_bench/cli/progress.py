"""Progress in the terminal: a bar with the time left and the success rate so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from rh_bench.measure.session import Step


class _TimeLeft(ProgressColumn):
    """Time left, estimated from this session: samples of an earlier one took none of its time."""

    def render(self, task: Task) -> Text:
        begun = task.fields.get("begun", 0.0)
        done, elapsed = task.completed - begun, task.elapsed or 0.0
        if task.total is None or done <= 0:
            return Text("time left –:––", style="dim")
        left = int(elapsed / done * (task.total - task.completed))
        hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        return Text(f"time left {clock}", style="cyan")


class EvaluateProgress:
    """Shows each :class:`rh_bench.measure.session.Step`, and the stages before the first."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage: TaskID | None = None
        self._samples: TaskID | None = None

    def stage(self, words: str) -> None:
        """A stage begins that takes seconds."""
        if self._stage is None:
            self._stage = self._progress.add_task(words, total=None, note="")
        self._progress.update(self._stage, description=words, visible=True)

    def note(self, line: str) -> None:
        """Something special to this model: a line that stays."""
        self._progress.console.print(f"[yellow]note:[/] {escape(line)}", soft_wrap=True)

    def step(self, step: Step) -> None:
        """A sample is done."""
        known = step.samples_done and step.succeeded is not None
        rate = f"success {(step.succeeded or 0) / step.samples_done:.0%}" if known else ""
        note = f"{step.samples_done}/{step.samples} samples  {rate}"
        if self._samples is None:
            if self._stage is not None:
                self._progress.update(self._stage, visible=False)
            self._samples = self._progress.add_task("Measuring", total=step.total, begun=step.done, note=note)
        self._progress.update(self._samples, completed=step.done, note=note)


@contextmanager
def evaluate_progress(console: Console) -> Iterator[EvaluateProgress]:
    """A live display on `console`, or plain text if that is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        _TimeLeft(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield EvaluateProgress(progress)
