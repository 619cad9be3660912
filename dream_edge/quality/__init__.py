"""What quantization costs: an artifact measured against the network it was made from.

PyTorch is needed only once `compare` runs.
"""

from __future__ import annotations

from .agreement import TrajectoryFigures
from .comparison import compare
from .data import Sample, Text, read_texts
from .report import Bin, Comparison, Figures, Measures, Quantile

__all__ = [
    "Bin",
    "Comparison",
    "Figures",
    "Measures",
    "Quantile",
    "Sample",
    "Text",
    "TrajectoryFigures",
    "compare",
    "read_texts",
]
