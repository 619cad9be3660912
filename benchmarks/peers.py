"""The same weights in this package, in llama.cpp and in PyTorch, measured in turns and printed as one table.

    python benchmarks/peers.py                          # 7B and 0.5B, on this processor and with AVX2 alone
    python benchmarks/peers.py --sizes 7b --layers 4    # a slice, where 45 GB of disk or 18 GB of memory are too much
    python benchmarks/peers.py --seconds 90             # so much at a time; call it until it prints the tables

Needs the extras cpu, export and dev, sentencepiece (llama.cpp's converter imports it), CMake and a C++ compiler:
llama.cpp comes as the source distribution of llama-cpp-python and is built here, once for this processor and once for
AVX2 alone. Everyone takes turns, a process each, and medians over the rounds count; what has been measured stays in
WORK/measured.jsonl.

The weights are random (tools/synthesize.py), so a text says nothing about how many passes a trained model needs. What a
text takes is reckoned: passes measured here, times how many a trained model was published to need (--tokens-per-pass),
each over as many positions as the decoding computes (--mix: what benchmarks/decoding.py has counted). llama.cpp and
PyTorch have no cache for this model, and each of their steps is the same: one token a step, as llama.cpp's manual has
it. Loading is not in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.path[:1] = [str(root), str(root / "runtime"), str(root / "export")]  # so that it runs from any directory
    from benchmarks.beside.comparison import main

    main(__doc__)
