"""The figures of a comparison, overall and by mask ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .measures import Differences, DoubleArray


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What a set of masked sequences says. Nats and shares; `_se` are standard errors, sequences being the units.

    kl_mean, kl_median, kl_p99: KL(reference ‖ artifact) of the masked positions; mean, median, 99th percentile.
    same_top: share of masked positions where both find the same token most probable.
    elbo_reference, elbo_artifact: the bound on the log-likelihood, in nats a token. One sequence with l of its n
        maskable tokens masked, l uniform on 1 … n, estimates it as (1/n)(n/l) Σ log p(masked token), which is the mean
        of log p over its masked tokens (the 1/t weight of MDLM, arXiv 2406.07524, and equation 6 of LLaDA,
        arXiv 2502.09992). The figure is the mean over sequences. Of one interval of mask ratios, it is
        that interval's share of the bound, times the number of intervals.
    delta_elbo: artifact - reference: below 0 where quantization makes the texts less likely. Both see the same masks,
        so its standard error is far below that of either bound.
    """

    kl_mean: float
    kl_mean_se: float
    kl_median: float
    kl_p99: float
    same_top: float
    same_top_se: float
    elbo_reference: float
    elbo_artifact: float
    delta_elbo: float
    delta_elbo_se: float
    positions: int
    sequences: int


@dataclass(frozen=True)
class Bin:
    """The sequences whose mask ratio lies in (low, high]."""

    low: float
    high: float
    measures: Measures


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An artifact against its reference. A bin without sequences is left out."""

    overall: Measures
    bins: tuple[Bin, ...]
    artifact: str
    scheme: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "artifact": self.artifact,
            "scheme": self.scheme,
            "seed": self.seed,
            "overall": asdict(self.overall),
            "bins": [{"mask_ratio": [part.low, part.high], **asdict(part.measures)} for part in self.bins],
        }


def measure(sequences: Sequence[Differences]) -> Measures:
    """The figures of one or more sequences, each with at least one masked position."""
    kl, same = [part.kl for part in sequences], [part.same_top.astype(np.float64) for part in sequences]
    reference = np.array([-part.reference_loss.mean() for part in sequences])
    artifact = np.array([-part.artifact_loss.mean() for part in sequences])
    every_kl = np.concatenate(kl)
    return Measures(
        kl_mean=float(every_kl.mean()),
        kl_mean_se=_cluster_error(kl),
        kl_median=float(np.median(every_kl)),
        kl_p99=float(np.percentile(every_kl, 99)),
        same_top=float(np.concatenate(same).mean()),
        same_top_se=_cluster_error(same),
        elbo_reference=float(reference.mean()),
        elbo_artifact=float(artifact.mean()),
        delta_elbo=float((artifact - reference).mean()),
        delta_elbo_se=_cluster_error([*(artifact - reference)[:, None]]),
        positions=len(every_kl),
        sequences=len(sequences),
    )


def _cluster_error(sequences: Sequence[DoubleArray]) -> float:
    """Standard error of the mean over all positions, when positions of one sequence depend on each other.

    Linearised ratio estimator (Cochran, Sampling Techniques, section 9.3); with one position a sequence it is the
    usual s / √n. 0 for a single sequence, which says nothing about others.
    """
    count = len(sequences)
    if count < 2:
        return 0.0
    sums = np.array([part.sum() for part in sequences])
    sizes = np.array([len(part) for part in sequences])
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(count / (count - 1) * (residuals**2).sum()) / sizes.sum())
