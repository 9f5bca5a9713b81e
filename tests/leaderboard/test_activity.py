"""What each head copied in each sample, laid out at once, against the events as the core reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_runs import ANSWER, SPAN, make_document, make_layers, make_results, make_run

import rh_bench.leaderboard.activity
from rh_bench.artifacts.run import read_run, run_folder, write_run
from rh_bench.leaderboard.activity import activity_of, read_activity
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.open_run import OpenRun
from rh_bench.records import Json, Layer, head_grid
from rh_bench.scores.heads import in_order, sample_scores


def layers_of(folder: Path) -> list[Json]:
    layers: list[Json] = read_run(folder).document["model"]["layers"]
    return layers


def test_shares_are_the_scores_on_single_samples(tmp_path: Path) -> None:
    folder = make_run(tmp_path, layers=3, heads=6)
    found = read_activity(folder, layers_of(folder))
    assert found is not None
    run = read_run(folder)
    ordered = in_order(run.results)
    assert [sample.sample_id for sample in found.samples] == [result.sample.sample_id for result in ordered]
    counted = [result for result in ordered if result.success]
    assert np.array_equal(found.shares, sample_scores(run.layers, counted)[0])
    assert found.heads == tuple(head_grid(run.layers))
    assert {sample.span for sample in found.samples} == {len(SPAN)}
    assert {sample.answer for sample in found.samples} == {ANSWER}
    assert sorted({sample.steps for sample in found.samples}) == [1, len(SPAN)]


def test_events_of_one_head_in_one_sample_are_those_of_the_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path, layers=3, heads=6)
    found = read_activity(folder, layers_of(folder))
    assert found is not None
    for place, result in enumerate(in_order(read_run(folder).results)):
        for column, (layer, head) in enumerate(found.heads):
            own = (result.events[:, 0] == layer) & (result.events[:, 1] == head)
            assert found.of(place, column).tolist() == result.events[own][:, 2:].tolist()


def test_a_position_that_is_copied_twice_counts_once_and_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = (Layer(0, "linear_attention"), *make_layers(3, 4, 2)[1:])
    results = []
    for result in make_results(3, 4, 7):
        events = result.events[result.events[:, 0] > 0]
        again = events.copy()
        again[:, 2] += 20  # the same positions at later steps
        generated = result.generated_ids + (0,) * (20 - len(result.generated_ids)) + result.generated_ids
        results.append(replace(result, events=np.concatenate([events, again]), generated_ids=generated))
    document = make_document(layers, "acme/twice")
    folder = run_folder(tmp_path, "acme__twice", document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, layers, results)
    whole = read_activity(folder, document["model"]["layers"])
    assert whole is not None
    counted = [result for result in in_order(results) if result.success]
    assert np.array_equal(whole.shares, sample_scores(layers, counted)[0])
    monkeypatch.setattr(rh_bench.leaderboard.activity, "_BLOCK", 1)
    parts = read_activity(folder, document["model"]["layers"])
    assert parts is not None and np.array_equal(parts.copied, whole.copied)


def test_a_run_without_events_copies_nothing_and_one_too_large_is_not_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = make_layers(2, 2, 1)
    document = make_document(shape, "acme/silent")
    folder = run_folder(tmp_path, "acme__silent", document["run_id"])
    folder.mkdir(parents=True)
    silent = [replace(result, events=np.empty((0, 4), dtype=np.int32)) for result in make_results(2, 2, 5)]
    write_run(folder, document, shape, silent)
    found = read_activity(folder, layers_of(folder))
    assert found is not None and found.copied.shape == (5, 4) and not found.copied.any()
    assert found.of(0, 0).shape == (0, 2)
    monkeypatch.setattr(rh_bench.leaderboard.activity, "MOST_CELLS", 19)
    assert read_activity(folder, layers_of(folder)) is None


def test_the_activity_of_an_entry_is_its_own_and_read_once(tmp_path: Path) -> None:
    make_run(tmp_path, model_id="acme/a", seed=1)
    make_run(tmp_path, model_id="acme/b", seed=2)
    first, second = collect(tmp_path).entries
    run = OpenRun(first)
    found = run.activity
    assert found is not None and run.activity is found
    other = activity_of(second)
    assert other is not None and not np.array_equal(other.copied, found.copied)
    assert activity_of(replace(second, folder=None)) is None
