"""The same checkpoint in this package's formats, llama.cpp's and bitsandbytes': size against loss.

    python benchmarks/quality_peers.py --plot size_loss.png

Needs the extras cpu, export and dev, the package gguf, CMake and a C++ compiler (llama.cpp is built from the source
distribution of llama-cpp-python, once). Its files are quantized by its own llama-quantize without an importance matrix,
as by default, and read by its own package.

Every format is measured twice, at the same masks of the same held-out texts: its weights alone, in the full-precision
network; and as computed, with the inputs of matrix products rounded as well. For ours the latter is the artifact in its
runtime; for the others what their kernels do is done in the reference (llama.cpp on processors: groups of 32 or 256;
LLM.int8 on GPUs: rows, outlying columns apart; NF4 rounds nothing). So nothing but rounding counts against them.

Bits are counted the same way: all bytes × 8 / parameters, of the whole file without the vocabulary, of the weights, and
of the layers' matrices alone. bitsandbytes leaves embedding and lm_head in 16 bits.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.path[:1] = [str(root), str(root / "runtime"), str(root / "export")]  # so that it runs from any directory
    from benchmarks.equal_size.program import main

    main(__doc__)
