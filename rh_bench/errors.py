"""The two ways a command fails, and what it warns of. Anything else that escapes is a fault of this package."""

from __future__ import annotations


class RhBenchError(Exception):
    """Base class of the errors that end a command with one line and no traceback.

    ```python
    issubclass(rh.InputError, rh.RhBenchError)
    ```
    """

    exit_status = 2


class InputError(RhBenchError):
    """The input is wrong (exit status 2): says which file or option, which field, and how to fix it, on one line.

    ```python
    try:
        rh.load_run("nowhere")
    except rh.InputError as error:
        print(error)
    ```
    """

    def __init__(self, problem: str, *, where: object = None, hint: str | None = None) -> None:
        """
        Args:
            problem: what is wrong, without a final full stop.
            where: the file, option or field that is wrong.
            hint: what the user can do about it.
        """
        self.problem = " ".join((f"{problem}; {hint}" if hint else problem).split())
        """What is wrong and how to fix it, without the place."""
        text = f"{where}: {self.problem}" if where is not None else self.problem
        super().__init__(" ".join(text.split()))


class LimitError(InputError):
    """The input takes more than it may, so that nobody knows whether it is right."""

    def __init__(self, problem: str, exceeded: str, *, where: object = None, hint: str | None = None) -> None:
        """
        Args:
            exceeded: the limit, as `rh_bench.system.limits` names it.
        """
        self.exceeded = exceeded
        super().__init__(problem, where=where, hint=hint)


class CheckFailed(RhBenchError):
    """A check ran to its end and the thing checked is not valid (exit status 1)."""

    exit_status = 1


class RhBenchWarning(UserWarning):
    """Something that the user should know and that is no error. The command line prints it as one line.

    ```python
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", rh.RhBenchWarning)  # a run that is left out is an error then
        runs = rh.load_runs("runs")
    ```
    """
