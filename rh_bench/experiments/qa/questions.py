"""Questions of an experiment that is verified, had again from where it says that they are."""

from __future__ import annotations

from rh_bench.sets.tasks import TaskData


def load_questions(task: str, place: str) -> TaskData:
    """As `rh-bench reason` and `rh-bench extract-qa` take them with --data.

    Raises:
        InputError: they cannot be fetched.
    """
    from rh_bench.data_builders.tasks import load_task

    return load_task(task, place)
