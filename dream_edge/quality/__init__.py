"""What quantization costs: an artifact measured against the network it was made from.

That network is evaluated once (`build_base`, which needs PyTorch); any number of artifacts are compared with what it
predicts. `dream_edge.compare` does all of it.
"""

from __future__ import annotations

from .comparison import Comparison, check_same_model, compare_artifact
from .measure.figures import Bin, Figures, Measures, Quantile
from .reference.base import Base
from .reference.build import BasePlan, build_base, temporary_base
from .reference.noise import noise_floor, with_noise_floor
from .texts.masking import Evaluation, draw_evaluation
from .texts.read import Sample, Text, read_texts
from .trajectory.agreement import TrajectoryFigures
from .trajectory.follow import trajectories, with_trajectories

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
    "compare_artifact",
    "draw_evaluation",
    "noise_floor",
    "read_texts",
    "temporary_base",
    "trajectories",
    "with_noise_floor",
    "with_trajectories",
]
