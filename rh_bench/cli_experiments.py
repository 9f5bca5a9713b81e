"""The commands of experiments: what heads do, beside which they are."""

from __future__ import annotations

from collections.abc import Sequence

import click

EXPERIMENT_COMMANDS: Sequence[click.Command] = ()
