"""Which cases are kept out of training, so that scores are measured on cases the network has never seen.

Membership is a property of the case itself (a hash of what is asked), never of the order in which cases were drawn:
a program that trains and a program that scores agree without sharing any state.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

SHARE = 16
"""One case in this many is held out."""

_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)


def codes_held_out(codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each case, numbered by a code of its own, is held out [cases]."""
    mixed = codes.astype(np.uint64) * _FIBONACCI
    mixed ^= mixed >> np.uint64(29)
    mixed *= _FIBONACCI
    held_out: NDArray[np.bool_] = (mixed >> np.uint64(40)) % np.uint64(SHARE) == 0
    return held_out


def text_held_out(text: str) -> bool:
    """Whether the case that this text states is held out."""
    return zlib.crc32(text.encode()) % SHARE == 0
