"""YAML from untrusted sources, with plain values only."""

from __future__ import annotations

from typing import Any

import yaml

from rh_bench.errors import InputError

_MOST_YAML = 256 << 10
"""Characters. Reading YAML takes seconds per megabyte, and time quadratic in its nesting."""
_MOST_YAML_DEPTH = 16
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def plain_yaml(text: str, where: object) -> Any:
    """Read YAML with plain values only: anchors and aliases can expand without bound, tags can build objects.

    Raises:
        InputError: it is not YAML, uses any of these, or is longer or deeper than a list of heads can be.
    """
    if len(text) > _MOST_YAML:
        raise InputError(f"its YAML is longer than {_MOST_YAML} characters", where=where)
    depth = 0
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
                raise InputError("its YAML has an anchor, an alias or a tag; use plain values", where=where)
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _MOST_YAML_DEPTH:
                raise InputError(f"its YAML is nested deeper than {_MOST_YAML_DEPTH}", where=where)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError("is not readable YAML", where=where) from None
