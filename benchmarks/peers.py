"""The same weights in this package, in llama.cpp and in PyTorch, measured in turns and printed as one table.

    python benchmarks/peers.py                        # 4 layers of Dream 7B's geometry
    python benchmarks/peers.py --layers 2 4           # and what a line through both says about all 28
    python benchmarks/peers.py --layers 28 --clean    # all of it: 45 GB of disk while it runs

Needs the extras cpu, export and dev, CMake and a C++ compiler: llama.cpp comes as the source distribution of
llama-cpp-python and is built here, once, for this processor. The weights are random (tools/synthesize.py), so a text
says nothing about how many passes a trained model needs: it is timed at one token per pass, and computed for other
paces (--tokens-per-pass). llama.cpp and PyTorch have no cache for this model, and each of their passes is the same: a
few are run and the rest is counted; so are ours without a cache, while a text with a cache is run whole. Loading is not
in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.path[:1] = [str(root), str(root / "runtime"), str(root / "export")]  # so that it runs from any directory
    from benchmarks.beside.comparison import main

    main(__doc__)
