"""What a comparison measures, overall and by mask ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from .differences import Differences, DoubleArray
from .estimates import correlation, mean_error, quantile_errors

KL_PERCENTS = (100, 99.9, 99, 95, 90, 50, 10, 5, 1, 0.1, 0)
DP_PERCENTS = (100, 99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1, 0.1, 0)
"""As `llama-perplexity --kl-divergence` prints them."""
KL_EDGES = tuple(float(10 ** (quarter / 4)) for quarter in range(-40, 9))
"""Of the histogram: four bins a decade from 1e-10 to 100 nats. What lies outside is counted in the outermost bins."""


@dataclass(frozen=True)
class Quantile:
    """The value below which `percent` of the positions lie; 100 is the largest and 0 the smallest of all."""

    percent: float
    value: float
    error: float | None
    """Standard error; None for the largest and the smallest, whose errors a sample cannot tell."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What a set of masked sequences says. Nats and shares; `_se` are standard errors, sequences being the units.

    kl_mean, kl_quantiles: KL(reference ‖ artifact) of the masked positions; `kl_median`, `kl_p99`, `kl_p999` and
        `kl_max` are read from the quantiles (100, 99.9, 99, 95, 90, 50, 10, 5, 1, 0.1 and 0 %).
    same_top: share of masked positions where both find the same token most probable.
    dp_mean, dp_rms, dp_quantiles: of Δp, the artifact's probability of the token that was there less the reference's;
        below 0 where quantization lost it. The mean is a bias, the root mean square a size.
    elbo_reference, elbo_artifact: the bound on the log-likelihood, in nats a token. One sequence with l of its n
        maskable tokens masked, l uniform on 1 … n, estimates it as (1/n)(n/l) Σ log p(masked token), which is the mean
        of log p over its masked tokens (the 1/t weight of MDLM, arXiv 2406.07524, and equation 6 of LLaDA,
        arXiv 2502.09992). The figure is the mean over sequences. Of one interval of mask ratios, it is
        that interval's share of the bound, times the number of intervals.
    delta_elbo: artifact - reference: below 0 where quantization makes the texts less likely. Both see the same masks,
        so its standard error is far below that of either bound.
    correlation: of the two bounds' estimates, sequence by sequence: how far an error of one is an error of both.
        None where it is undefined: one sequence, or all alike.
    kl_histogram: how many positions have their KL in each bin of `KL_EDGES`.

    The perplexities are exp(-bound) a token, so they bound the perplexity from above.
    """

    kl_mean: float
    kl_mean_se: float
    kl_quantiles: tuple[Quantile, ...]
    kl_histogram: tuple[int, ...]
    same_top: float
    same_top_se: float
    dp_mean: float
    dp_mean_se: float
    dp_rms: float
    dp_rms_se: float
    dp_quantiles: tuple[Quantile, ...]
    elbo_reference: float
    elbo_reference_se: float
    elbo_artifact: float
    elbo_artifact_se: float
    delta_elbo: float
    delta_elbo_se: float
    correlation: float | None
    correlation_se: float | None
    positions: int
    sequences: int

    @property
    def kl_median(self) -> float:
        """Of KL, in nats."""
        return self.kl_quantile(50).value

    @property
    def kl_p99(self) -> float:
        """99 % of the positions have a smaller KL, in nats."""
        return self.kl_quantile(99).value

    @property
    def kl_p999(self) -> float:
        """99.9 % of the positions have a smaller KL, in nats."""
        return self.kl_quantile(99.9).value

    @property
    def kl_max(self) -> float:
        """The largest KL, in nats."""
        return self.kl_quantile(100).value

    def kl_quantile(self, percent: float) -> Quantile:
        """One of `KL_PERCENTS`."""
        return self.kl_quantiles[KL_PERCENTS.index(percent)]

    @property
    def ppl_reference(self) -> float:
        """The reference's perplexity, from above."""
        return _exp(-self.elbo_reference)

    @property
    def ppl_artifact(self) -> float:
        """The artifact's perplexity, from above."""
        return _exp(-self.elbo_artifact)

    @property
    def ppl_ratio(self) -> float:
        """The artifact's perplexity over the reference's."""
        return _exp(-self.delta_elbo)

    @property
    def ppl_ratio_se(self) -> float:
        """Standard error of `ppl_ratio`."""
        return self.ppl_ratio * self.delta_elbo_se

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a figure has no finite value."""
        derived: dict[str, float | None] = {
            "kl_median": self.kl_median,
            "kl_median_se": self.kl_quantile(50).error,
            "kl_p99": self.kl_p99,
            "kl_p99_se": self.kl_quantile(99).error,
            "kl_p999": self.kl_p999,
            "kl_p999_se": self.kl_quantile(99.9).error,
            "kl_max": self.kl_max,
            "ppl_reference": self.ppl_reference,
            "ppl_reference_se": self.ppl_reference * self.elbo_reference_se,
            "ppl_artifact": self.ppl_artifact,
            "ppl_artifact_se": self.ppl_artifact * self.elbo_artifact_se,
            "ppl_ratio": self.ppl_ratio,
            "ppl_ratio_se": self.ppl_ratio_se,
        }
        finite = {
            name: value if value is not None and math.isfinite(value) else None for name, value in derived.items()
        }
        histogram = {"edges": [*KL_EDGES], "counts": [*self.kl_histogram]}
        return {**asdict(self), **finite, "kl_histogram": histogram}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Measures:
        """The inverse of `to_dict`; KeyError or TypeError where something else wrote it."""
        values = {field.name: document[field.name] for field in fields(cls)}
        for name in ("kl_quantiles", "dp_quantiles"):
            values[name] = tuple(Quantile(**each) for each in values[name])
        values["kl_histogram"] = tuple(values["kl_histogram"]["counts"])
        return cls(**values)


@dataclass(frozen=True)
class Bin:
    """The sequences whose mask ratio lies in (low, high]."""

    low: float
    """The least mask ratio, not included."""
    high: float
    """The largest."""
    measures: Measures
    """Of the texts masked at such ratios."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one network against the reference. A bin without sequences is left out."""

    overall: Measures
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "overall": self.overall.to_dict(),
            "bins": [{"mask_ratio": [part.low, part.high], **part.measures.to_dict()} for part in self.bins],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Figures:
        """The inverse of `to_dict`; KeyError or TypeError where something else wrote it."""
        bins = ((*part["mask_ratio"], Measures.from_dict(part)) for part in document["bins"])
        return cls(Measures.from_dict(document["overall"]), tuple(Bin(low, high, found) for low, high, found in bins))


def figures(sequences: Sequence[tuple[int, Differences]], bins: int) -> Figures:
    """Overall and by mask ratio, of sequences that each come with the number of their bin, of `bins` equal ones."""
    members = [[found for part, found in sequences if part == index] for index in range(bins)]
    return Figures(
        measure([found for _, found in sequences]),
        tuple(Bin(index / bins, (index + 1) / bins, measure(part)) for index, part in enumerate(members) if part),
    )


def measure(sequences: Sequence[Differences]) -> Measures:
    """The figures of one or more sequences, each with at least one masked position."""
    kl, same = [part.kl for part in sequences], [part.same_top.astype(np.float64) for part in sequences]
    gain = [part.gain for part in sequences]
    squared = [part**2 for part in gain]
    rms = math.sqrt(np.concatenate(squared).mean())
    reference = np.array([-part.reference_loss.mean() for part in sequences])
    artifact = np.array([-part.artifact_loss.mean() for part in sequences])
    alike, alike_error = correlation(reference, artifact)
    return Measures(
        kl_mean=float(np.concatenate(kl).mean()),
        kl_mean_se=mean_error(kl),
        kl_quantiles=_quantiles(kl, KL_PERCENTS),
        kl_histogram=tuple(np.histogram(np.clip(np.concatenate(kl), KL_EDGES[0], KL_EDGES[-1]), KL_EDGES)[0].tolist()),
        same_top=float(np.concatenate(same).mean()),
        same_top_se=mean_error(same),
        dp_mean=float(np.concatenate(gain).mean()),
        dp_mean_se=mean_error(gain),
        dp_rms=rms,
        dp_rms_se=mean_error(squared) / (2 * rms) if rms > 0 else 0.0,
        dp_quantiles=_quantiles(gain, DP_PERCENTS),
        elbo_reference=float(reference.mean()),
        elbo_reference_se=mean_error([*reference[:, None]]),
        elbo_artifact=float(artifact.mean()),
        elbo_artifact_se=mean_error([*artifact[:, None]]),
        delta_elbo=float((artifact - reference).mean()),
        delta_elbo_se=mean_error([*(artifact - reference)[:, None]]),
        correlation=alike if math.isfinite(alike) else None,
        correlation_se=alike_error if math.isfinite(alike_error) else None,
        positions=sum(map(len, kl)),
        sequences=len(sequences),
    )


def _quantiles(sequences: Sequence[DoubleArray], percents: Sequence[float]) -> tuple[Quantile, ...]:
    shares = [percent / 100 for percent in percents]
    values = np.quantile(np.concatenate(sequences), shares)
    errors = quantile_errors(sequences, shares)
    return tuple(
        Quantile(percent, float(value), None if math.isnan(error) else float(error))
        for percent, value, error in zip(percents, values, errors, strict=True)
    )


def _exp(value: float) -> float:
    """exp, infinite where it exceeds what a float holds."""
    return math.exp(value) if value < 709 else math.inf
