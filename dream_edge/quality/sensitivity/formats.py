"""Names of the formats that a matrix may have on a processor, as commands and files write them."""

from __future__ import annotations

import re

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.recipe import BLOCK_SIZES, HALF, ROW, WeightFormat

_NAME = re.compile(r"(int4|int8|nf4)-(\d+)")


def parse_format(name: str) -> WeightFormat:
    """The format called `name`.

    "int4-128" (4 bits in groups of 128, with zero points), "int8-128" (8 bits in groups), "nf4-64", "int8" (8 bits with
    one scale an output and 8-bit activations), "fp16". Raises InvalidOption.
    """
    if name in ("int8", "fp16"):
        return ROW if name == "int8" else HALF
    found = _NAME.fullmatch(name)
    if not found or int(found[2]) not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise InvalidOption("formats", name, f"must be int8, fp16, int4-N, int8-N or nf4-N with N one of {sizes}")
    if found[1] == "nf4":
        return WeightFormat(kind="nf4", bits=4, block_size=int(found[2]))
    bits = int(found[1][-1])
    return WeightFormat(kind="block", bits=bits, block_size=int(found[2]), symmetric=bits == 8)


def format_name(weights: WeightFormat) -> str:
    """What `parse_format` calls `weights`."""
    if not weights.has_blocks:
        return "int8" if weights.kind == "row" else f"fp{weights.bits}"
    return f"{'nf' if weights.kind == 'nf4' else 'int'}{weights.bits}-{weights.block_size}"
