"""Runs a command twice on a small disk, in a name space of mounts of its own: once as it is, once with room.

    unshare -rm python -m benchmarks.faults.on_small_disk PLAN

What is there after each lies beside the plan afterwards, since the disk is gone with this process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOM = "size=1g,nr_inodes=100k"


def main() -> None:
    plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    root, words = Path(plan["root"]), Path(plan["words"])
    before = words / "before"
    shutil.copytree(root, before)
    _mount(ROOM, root)
    shutil.copytree(before, root, dirs_exist_ok=True)
    _mount(f"remount,{plan['size']}", root)
    for step in ("first", "last"):
        with (words / f"{step}.out").open("wb") as out, (words / f"{step}.err").open("wb") as err:
            done = subprocess.run(plan["command"], env=plan["variables"], stdout=out, stderr=err, check=False)
        (words / f"{step}.status").write_text(str(done.returncode))
        shutil.copytree(root, words / step, symlinks=True)
        _mount(f"remount,{ROOM}", root)


def _mount(options: str, root: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(root)], check=True)


if __name__ == "__main__":
    main()
