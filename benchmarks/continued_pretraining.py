"""A variant of a small model, by a short continued pre-training at a longer context: one half of an intrinsic pair.

    python -m benchmarks.continued_pretraining MODEL OUT --length 16384 --steps 100 --losses NAME.json

The text is the synthetic prose of data_builders, of seeds that no built set uses. Nothing is asked of the model and no
needle is in it: what changes is the window and the weights. OUT is a folder with safetensors, the tokenizer and a card
that names the base model; `rh-bench evaluate` measures it, and `rh-bench compare` holds its heads against the base's.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.machine import describe, peak_memory
from rh_bench.data_builders.prose import PROSE_VERSION, synthetic_text
from rh_bench.errors import RhBenchError
from rh_bench.models.load import LoadedModel, load_model
from rh_bench.records import Json
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json

FIRST_SEED = 5_000_000
"""A set of seed n takes the texts from 1,000 n on: this is beyond all that are built here."""
CHARACTERS = 500_000
"""Of one text; each has a seed of its own."""
WARM_UP = 0.1


def token_blocks(tokenizer: Any, length: int, count: int) -> torch.Tensor:
    """int64 [count, length]: consecutive pieces of synthetic books, tokenised one after the other."""
    wanted, found, have = length * count, [], 0
    with ProcessPoolExecutor() as pool:
        texts = pool.map(synthetic_text, range(FIRST_SEED, FIRST_SEED + wanted // 50_000 + 1), _forever(CHARACTERS))
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            found.append(np.asarray(ids, dtype=np.int64))
            have += len(ids)
            if have >= wanted:
                break
    if have < wanted:
        raise AssertionError("a token of prose has at most ten characters")
    return torch.from_numpy(np.concatenate(found)[:wanted].reshape(count, length))


def _forever(value: int) -> Iterator[int]:
    while True:
        yield value


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def lengthen(model: Any, length: int) -> Json:
    """Give the model a window of `length` tokens: its rotary base grows as the window does. Returns old and new."""
    config = model.config
    before = {"window": config.max_position_embeddings, "rope_theta": config.rope_parameters["rope_theta"]}
    if length > before["window"]:
        config.rope_parameters = {
            **config.rope_parameters,
            "rope_theta": before["rope_theta"] * (length / before["window"]) ** 2,
        }
        config.max_position_embeddings = length
        model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to(model.device)
    return {
        "before": before,
        "after": {"window": config.max_position_embeddings, "rope_theta": config.rope_parameters["rope_theta"]},
    }


def train(model: Any, blocks: torch.Tensor, arguments: argparse.Namespace, console: Console) -> list[float]:
    """AdamW on float32 weights with bfloat16 arithmetic. Returns the loss of every step."""
    steps, batch = arguments.steps, arguments.batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.01)
    model.train()
    model.gradient_checkpointing_enable()
    losses: list[float] = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, arguments.rate)
        total = torch.zeros((), device=model.device)
        for ids in blocks[step * batch : (step + 1) * batch].split(1):
            ids = ids.to(model.device)
            with torch.autocast(model.device.type, dtype=torch.bfloat16):
                loss = model(input_ids=ids, labels=ids).loss / batch
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(round(float(total), 5))
        if step % 10 == 0 or step == steps - 1:
            console.print(f"step {step:4d}  loss {losses[-1]:.4f}")
    return losses


def card(base: str, report: Json) -> str:
    settings = report["settings"]
    return (
        f"---\nbase_model: {base}\nlibrary_name: transformers\n---\n\n"
        f"{base}, trained for {settings['steps']} more steps of {settings['batch']} × {settings['length']} tokens on "
        "synthetic prose (CC0), to see whether its retrieval heads stay. Made by "
        "`python -m benchmarks.continued_pretraining`; of no other use.\n"
    )


def save(loaded: LoadedModel, folder: Path, report: Json, base: str) -> None:
    model = loaded.model.to(torch.bfloat16).eval()
    model.config.use_cache = True
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    atomic_write(folder / "README.md", card(base, report).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="its name, for the card")
    parser.add_argument("--length", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=4, help="sequences a step")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--losses", type=Path, help="file for settings and losses")
    arguments = parser.parse_args()
    console = Console(width=120)
    torch.manual_seed(arguments.seed)
    try:
        loaded = load_model(arguments.model, dtype="float32", device=arguments.device)
    except RhBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    rotary = lengthen(loaded.model, arguments.length)
    started = time.perf_counter()
    blocks = token_blocks(loaded.tokenizer, arguments.length, arguments.steps * arguments.batch)
    read = time.perf_counter()
    console.print(f"{blocks.numel():,} tokens of prose in {read - started:.0f} s; {rotary}")
    losses = train(loaded.model, blocks, arguments, console)
    names = ("length", "batch", "steps", "rate", "seed")
    report: Json = {
        "benchmark": "continued_pretraining",
        "model": Path(arguments.model.removeprefix("gguf:")).name,
        "model_revision": loaded.source.revision,
        "text": {"source": "synthetic prose", "version": PROSE_VERSION, "first_seed": FIRST_SEED, "licence": "CC0-1.0"},
        "settings": {name: getattr(arguments, name) for name in names},
        "rotary": rotary,
        "tokens": blocks.numel(),
        "seconds": round(time.perf_counter() - read, 1),
        "peak_bytes": peak_memory(loaded.device),
        "losses": losses,
        "environment": describe(loaded),
    }
    save(loaded, arguments.out, report, arguments.base)
    if arguments.losses:
        atomic_write(arguments.losses, dump_json(report))
    console.print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {report['seconds']} s; {arguments.out}")


if __name__ == "__main__":
    main()
