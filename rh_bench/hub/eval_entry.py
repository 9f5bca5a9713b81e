"""An entry of `.eval_results/*.yaml`, by huggingface_hub's own class."""

from __future__ import annotations

from rh_bench.hub.refs import parse_repo


def eval_result_yaml(repo_id: str, task_id: str, value: float, *, revision: str | None, date: str, notes: str) -> str:
    """An entry of `.eval_results/*.yaml`, by huggingface_hub's own class; without a verification token, which only the
    Hub can give.

    Args:
        repo_id, task_id: the benchmark dataset, and the task in it.
        revision: the benchmark's commit.

    Raises:
        InputError: `repo_id` is no repository's name.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    parse_repo(repo_id)
    entry = EvalResultEntry(
        dataset_id=repo_id, task_id=task_id, value=value, dataset_revision=revision, date=date, notes=notes
    )
    text: str = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    return text
