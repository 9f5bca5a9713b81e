"""A GGUF file as a folder of dense safetensors weights, which every version of transformers reads alike.

    python -m benchmarks.gguf_to_folder MODEL.gguf OUT [--tokenizer FOLDER]

Some versions of transformers read a GGUF file's weights correctly and its tokenizer wrongly (rh_bench refuses to
measure with those). --tokenizer takes the tokenizer from a folder that another machine's transformers wrote, instead;
with --tokenizer-only this command is what writes one there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from rh_bench.errors import RhBenchError
from rh_bench.models.load import load_tokenizer, load_weights, resolve_model

TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "*.jinja",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--tokenizer-only", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.tokenizer_only:
            load_tokenizer(f"gguf:{arguments.gguf}")[0].save_pretrained(arguments.out)
            return
        if arguments.tokenizer is None:
            load_tokenizer(f"gguf:{arguments.gguf}")[0].save_pretrained(arguments.out)
        model = load_weights(resolve_model(f"gguf:{arguments.gguf}"), getattr(torch, arguments.dtype))
    except RhBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    model.save_pretrained(arguments.out)
    if arguments.tokenizer is not None:
        for file in (file for pattern in TOKENIZER_FILES for file in arguments.tokenizer.glob(pattern)):
            shutil.copyfile(file, arguments.out / file.name)


if __name__ == "__main__":
    main()
