"""What the site shows of the experiment."""

from __future__ import annotations

from dataclasses import dataclass

from rh_bench.display.formatting import Figure, figure, percent
from rh_bench.experiments.showing import Showing
from rh_bench.records import Json


@dataclass(frozen=True, slots=True)
class CoinView:
    """How often heads were up."""

    share: Figure


def thin(document: Json) -> Json:
    return {"share": document["results"]["share"]}


def view(chart: Json) -> CoinView:
    return CoinView(figure(chart["share"], percent))


SHOWING = Showing(60, thin, view, detail=lambda document: document["counts"]["tosses"])
