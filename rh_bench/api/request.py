"""From a user's arguments to a request, with a one-line error for what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.errors import InputError
from rh_bench.measure.prepare import Request
from rh_bench.records import Json
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.grids import parse_depths, parse_lengths
from rh_bench.system.environment import refuse_light_install

if TYPE_CHECKING:
    from rh_bench.models.in_memory import InMemory, Loader
    from rh_bench.models.load import LoadedModel, Prompts
    from rh_bench.system.memory import MemoryPlan


def model_of(model: Any, tokenizer: Any, name: str | None) -> tuple[str, InMemory | None]:
    """The name of a model to load, or a model in memory.

    Raises:
        InputError: tokenizer and name are for a model in memory, which needs the tokenizer.
    """
    if isinstance(model, str | Path):
        for value, what in ((tokenizer, "tokenizer"), (name, "name")):
            if value is not None:
                raise InputError("is only for a model in memory", where=what, hint="a named model has its own")
        return str(model), None
    refuse_light_install("measuring a model")
    from rh_bench.models.in_memory import InMemory

    if tokenizer is None:
        raise InputError("a model in memory needs its tokenizer", where="tokenizer", hint="pass it after the model")
    return "", InMemory(model, tokenizer, name)


@dataclass(frozen=True)
class HeldRequest(Request):
    """A request for a model in memory."""

    _: KW_ONLY
    loader: Loader | None = None

    def load(
        self,
        *,
        run: Json | None = None,
        positions: int | None = None,
        prompts: Prompts | None = None,
        on_plan: Callable[[MemoryPlan], None] | None = None,
    ) -> LoadedModel:
        """Prepare the model. Arguments and errors as for `ModelRequest.load`."""
        assert self.loader is not None
        return self.loader(
            dtype=self.dtype or "auto",
            device=self.device,
            positions=positions,
            on_plan=on_plan,
            window=self.window,
            prompts=prompts,
        )


@contextmanager
def requested(model: Any, tokenizer: Any, name: str | None, **asked: Any) -> Iterator[Request]:
    """The request of a call. A model in memory is prepared inside the block, and restored after it.

    Args:
        asked: arguments of `make_request`.

    Raises:
        InputError: something about the call is wrong.
    """
    named, held = model_of(model, tokenizer, name)
    if held is None:
        yield make_request(Request, model=named, **asked)
        return
    with held.held() as loader:
        yield make_request(HeldRequest, model=named, loader=loader, **asked)


def make_request(
    kind: type[Request],
    *,
    haystack: str | Path | HaystackSet,
    out: str | Path | None,
    lengths: Sequence[int] | None,
    depths: Sequence[float] | None,
    needles: Sequence[str] | None,
    **options: Any,
) -> Request:
    """The request of a call.

    Raises:
        InputError: lengths, depths or needles are not valid.
    """
    for value, what in ((lengths, "lengths"), (depths, "depths"), (needles, "needles")):
        if isinstance(value, str | bytes) or (value is not None and not list(value)):
            raise InputError("must be a non-empty list", where=what)
    where = haystack.folder if isinstance(haystack, HaystackSet) else haystack
    return kind(
        haystack=str(where),
        out=Path() if out is None else Path(out).expanduser(),
        lengths=None if lengths is None else parse_lengths(",".join(map(str, lengths)), "lengths"),
        depths=None if depths is None else parse_depths(",".join(map(str, depths)), "depths"),
        needles=None if needles is None else tuple(needles),
        **options,
    )
