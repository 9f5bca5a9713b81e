"""How likely a lie is to be caught by so many samples: what `verify` says of its own evidence.

A head's score is a mean over samples, and a sample adds at most 1 to it. To move a score by d, at least a share d of
the counted samples must be forged: entirely, which is how a liar who knows this would do it, since a lie spread over
more samples is seen in more of those that are drawn. One sample whose events of a head are made up is enough to see it
(docs/verification.md has the simulations), so that the lie is missed only where none of them is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rh_bench.artifacts.run import Run
    from rh_bench.records import SampleResult

DEFAULT_SAMPLES = 32
"""Samples measured again where nobody says how many: a tenth of the samples forged is seen with 96%."""
LIE = 0.1
"""The size of lie that is spoken of, also a retrieval head's threshold."""


def caught(total: int, forged: int, drawn: int) -> float:
    """Probability that of `total` samples, `forged` of them forged, at least one forged is among `drawn`."""
    if forged <= 0:
        return 0.0
    if drawn >= total or forged + drawn > total:
        return 1.0
    return 1.0 - math.comb(total - forged, drawn) / math.comb(total, drawn)


def power_words(run: Run, chosen: Sequence[SampleResult]) -> str:
    """What a lie of size LIE about one head's score had against it, in words."""
    total, drawn = (sum(result.success for result in some) for some in (run.results, chosen))
    if not total:
        return "no sample counted: there are no head scores to lie about"
    found = caught(total, math.ceil(LIE * total), drawn)
    return (
        f"with {drawn} of its {total} counted samples, a lie of {LIE} or more about the score of a head is caught with"
        f" a probability of at least {percent(found)}, however it is spread over the samples"
    )


def percent(share: float) -> str:
    """Rounded down, so that it holds: 1.0 is 100%."""
    return f"{math.floor(share * 1000) / 10:g}%"
