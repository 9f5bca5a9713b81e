"""The counts of a campaign as docs/faults.md."""

from __future__ import annotations

from rh_bench.records import Json

_HEAD = """# Faults

Commands are killed, run on disks that are full and with too little memory, two at a time, with wrong clocks, and against
a Hub that fails. After each fault the same command runs again, undisturbed. Then either everything is there **byte for
byte** as an undisturbed command leaves it (*identical*), or the command is *refused in one line* that says why. Anything
else is *wrong*, and the campaign ends with status 1.

This page is made by the campaign:

```sh
python -m benchmarks.faults --out benchmarks/results/faults.json --page docs/faults.md
python -m benchmarks.faults --size 0.2 --only build,evaluate    # a part of it
python -m benchmarks.faults --case build/SIGKILL/7              # one case again, at its moment
```

`tests/test_faults_campaign.py` plays a small part of it in CI.
"""

_HOW = """## How

Every command is a process of its own, started as a user starts it. Those that need a Hub talk to the tests' loopback Hub
through the real huggingface_hub client. Models are random and tiny, runs and sets are measured and built by the commands
themselves. Moments are drawn from the seed and the case's name; `--cases FILE` writes each with its moment.

| fault | how | then |
|---|---|---|
| SIGKILL, SIGTERM | by the clock over the whole duration; after the first file or request has been seen; at the n-th operation on a file (Python's audit events); before or after what the n-th request asks for is done | again |
| full disk | a tmpfs of so many pages, in a mount namespace of its own (`unshare -rm`); where none can be made, the file size limit alone | what was there is still there, nothing is half done; again with room |
| no inodes left | the same, with room and without names | the same |
| file size limit | `ulimit -f` of 0 to 32 KiB | the same |
| address space limit | `ulimit -v` of 100 MiB, and from the 512 MiB that a command takes to begin up to what it usually takes | the same |
| two processes | the second at once, a little later, or when the first has begun to write | no third run: what is there is that of one |
| clock | ten years back or ahead; set back by up to two hours at the n-th operation on a file (`time.time` and `datetime.now` are shifted by a `sitecustomize` in the command's process, `datetime` in our own modules alone); files and a journal of the future | again |
| HTTP fault | one answer is dropped before or after it is done, cut in half, 500, 503, or a web page | again |
| a push meanwhile | at the n-th request of `review --merge`, to the pull request or to the main branch | again; what nobody verified is never in the main branch |

**Compared** are all bytes of all files below what the command writes, hidden ones and empty folders too, and all files,
tags and pull requests of the Hub with their states; comments are not. Left out is only what differs between two
undisturbed measurements: in run.json `timings` and the hash of samples.parquet (held against the file first), in
samples.parquet the column `seconds`, in the records of a review `date`, in a site's cache the times of the files that it was made from. The client's own cache is huggingface_hub's and not
compared; what rh-bench keeps beside it is.

A process that the system ends for want of memory (SIGSEGV or SIGABRT from a library, before any code of ours could say a
word) has no line; it counts as identical if the next run is. What SIGKILL leaves in the system's folder of temporary
files is not compared.
"""


def write_page(report: Json) -> str:
    """Markdown of the counts."""
    environment = report["environment"]
    names = ("rh_bench", "python", "torch", "transformers", "numpy")
    versions = ", ".join(f"{name} {environment[name]}" for name in names if environment.get(name))
    wrong = len(report["wrong"])
    counted = f"{report['cases']} cases, {report['kills']} of them kills that struck; {wrong or 'none'} wrong."
    counted += f" {report['kept']} are of an earlier session." if report["kept"] else ""
    made = f"Seed {report['seed']}, {report['seconds'] // 60} minutes on {report['cores']} cores; {versions}."
    machine = f"{environment['platform']}."
    rows = "".join(_row(row) for row in report["counts"])
    parts = [
        _HEAD,
        f"## Counts\n\n{counted} {made} {machine} *Struck* means that the fault came before the command was over: a disk"
        " may be large enough.\n",
        f"| command | fault | cases | struck | identical | refused in one line | wrong |\n|---|---|--:|--:|--:|--:|--:|\n{rows}",
        "### Where the kills came\n\nKills by tenth of the undisturbed duration. A command that is watched or killed from"
        " within is slower, and so are busy cores: what came later than the duration is in the last tenth.\n",
        _tenths(report["kills_by_tenth_of_the_duration"]),
        _refusals(report["refusals"]),
        _HOW,
    ]
    return "\n".join(part for part in parts if part)


def _row(row: Json) -> str:
    numbers = (row[name] for name in ("cases", "struck", "identical", "refused", "wrong"))
    return f"| `{row['command']}` | {row['fault']} | {' | '.join(map(str, numbers))} |\n"


def _tenths(found: Json) -> str:
    head = "".join(f" {place}0% |" for place in range(1, 11))
    lines = "".join(f"| `{name}` | {' | '.join(map(str, counts))} |\n" for name, counts in found.items())
    return f"| command |{head}\n|---|{'--:|' * 10}\n{lines}"


def _refusals(lines: list[str]) -> str:
    """The lines, of which many differ in a name alone."""
    if not lines:
        return ""
    shown = "".join(f"* {line.replace('`', '')}\n" for line in lines[:20])
    return f"### The lines of the refusals\n\n{shown}"
