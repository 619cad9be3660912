"""What an export holds at once, measured by the operating system in a process of its own."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_export.plan import plan_export
from dream_edge_runtime.format.recipe import SCHEMES, Recipe
from dream_edge_runtime.format.tensors import tensor_shapes
from support.checkpoints import config_dict
from support.processes import run_python
from support.vocabulary import write_tokenizer

PEAK = """
import sys
from pathlib import Path
from dream_edge_runtime.host import peak_memory
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe
export(Checkpoint.open(Path(sys.argv[1])), Path(sys.argv[2]), Recipe.for_scheme(sys.argv[3], layers=1))
print(peak_memory())
"""


def write_large(directory: Path, **geometry: Any) -> Checkpoint:
    """A bf16 checkpoint of any size, made without holding it: every row of a matrix is the same random one."""
    directory.mkdir()
    raw = {**config_dict(**geometry), "torch_dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(raw), "utf-8")
    write_tokenizer(directory)
    table, position = {}, 0
    shapes = tensor_shapes(parse_config(raw))
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        table[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    header = json.dumps(table).encode()
    noise = np.random.default_rng(0).standard_normal(max(shape[-1] for shape in shapes.values()), np.float32)
    halves = (noise.view(np.uint32) >> 16).astype(np.uint16)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for shape in shapes.values():
            rows = shape[0] if len(shape) == 2 else 1
            row = halves[: shape[-1]].tobytes()
            for start in range(0, rows, 1024):
                file.write(row * min(1024, rows - start))
    return Checkpoint.open(directory)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_peak_memory_is_bounded_and_no_more_than_planned(tmp_path: Path) -> None:
    """One layer of a 7B and half of its vocabulary: 0.8 billion weights, of which lm_head is the largest matrix."""
    checkpoint = write_large(
        tmp_path / "checkpoint",
        hidden_size=3584,
        intermediate_size=18944,
        num_attention_heads=28,
        num_key_value_heads=4,
        num_hidden_layers=1,
        vocab_size=80000,
    )
    for scheme in SCHEMES:
        planned = plan_export(checkpoint, Recipe.for_scheme(scheme, layers=1)).memory
        run = run_python(PEAK, checkpoint.path, tmp_path / scheme, scheme)
        assert run.returncode == 0, run.stderr
        peak = int(run.stdout)
        for file in (tmp_path / scheme).iterdir():
            file.unlink()
        assert peak < 3e9
        assert peak < 1.15 * planned, f"{scheme}: {peak / 1e9:.2f} GB, planned {planned / 1e9:.2f}"
