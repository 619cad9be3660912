"""What quantization costs: an artifact measured against the network it was made from.

That network is evaluated once (`build_base`, which needs PyTorch); any number of artifacts are held against what it
said.
"""

from __future__ import annotations

from .agreement import TrajectoryFigures
from .base import Base
from .building import BasePlan, build_base, evaluation_for, temporary_base
from .comparison import check_same_model, compare
from .data import Sample, Text, read_texts
from .evaluation import Evaluation
from .noise import noise_floor, with_noise_floor
from .recording import trajectories, with_trajectories
from .report import Bin, Comparison, Figures, Measures, Quantile

__all__ = [
    "Base",
    "BasePlan",
    "Bin",
    "Comparison",
    "Evaluation",
    "Figures",
    "Measures",
    "Quantile",
    "Sample",
    "Text",
    "TrajectoryFigures",
    "build_base",
    "check_same_model",
    "compare",
    "evaluation_for",
    "noise_floor",
    "read_texts",
    "temporary_base",
    "trajectories",
    "with_noise_floor",
    "with_trajectories",
]
