"""What work on a stranger's files may take."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest

from rh_bench.system.limits import GIB, Limit, Limits, make_limits, read_limits, weights_bytes

HUGE = """
import mmap
from rh_bench.system.limits import Limit, limited
{before}
with limited(Limit(200 << 20, 60, 60)):
    x = "x" * (100 << 20)
    try:
        "x" * (300 << 20)
    except MemoryError:
        print("refused")
print(len("x" * (300 << 20)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="macOS keeps no such limit, Windows has none")
@pytest.mark.parametrize(
    "before",
    ["", "held = 'y' * (1 << 30)", "held = mmap.mmap(-1, 1 << 38, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)"],
)
def test_memory_is_what_is_added_and_written_to(before: str) -> None:
    """What the process had before does not count, nor does address space that is reserved, as CUDA does."""
    done = subprocess.run(
        [sys.executable, "-c", HUGE.format(before=before)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["refused", str(300 << 20)], done.stderr


def test_what_a_user_gives_goes_before_the_usual() -> None:
    usual = Limits()
    assert make_limits() == usual == read_limits(asdict(usual))
    found = make_limits(seconds=5, memory=GIB, weights=7)
    assert found.valid == found.recomputed == Limit(GIB, 5, 5)
    assert found.rerun.clock == 5 and found.rerun.memory == GIB and found.most_weights == 7
    assert make_limits(memory=3).rerun == Limit(3, usual.rerun.processor, usual.rerun.clock)


def test_room_for_weights_is_what_their_files_need() -> None:
    def file(name: str, size: int) -> dict[str, object]:
        return {"path": name, "sha256": "0" * 64, "bytes": size}

    model = {"files": [file("model.safetensors", 100), file("config.json", 9)]}
    assert weights_bytes(model) == 100
    limits = make_limits(memory=1000)
    assert limits.with_weights(model).memory == 1000 + 600
    adapter = {"files": [file("adapter_model.safetensors", 1)], "adapter": {"base": model}}
    assert weights_bytes(adapter) == 101
    assert limits.with_weights({"files": [file("m.gguf", 10)]}).memory == 1000 + 160
    lying = {"files": [file("model.safetensors", 1 << 60)]}
    assert make_limits(memory=1000, weights=50).with_weights(lying).memory == 1000 + 300
