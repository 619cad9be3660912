"""Calibration: choose the numbers that weights are rounded to by what comes out of the matrices.

What it is made of, each in a file of its own: masked sequences to run through the network (`inputs`), scales folded
from activations into weights (`folding`), GPTQ (`gptq`), one layer (`layer`), all of them in turn (`network`), and
what is kept so that it can resume (`store`).
"""

from __future__ import annotations

from .inputs import CalibrationSet
from .network import calibrate, check_calibration, encode_calibrated, name_rounding
from .store import Store

__all__ = [
    "CalibrationSet",
    "Store",
    "calibrate",
    "check_calibration",
    "encode_calibrated",
    "name_rounding",
]
