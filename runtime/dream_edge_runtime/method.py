"""From a configuration to the strategies that carry it out."""

from __future__ import annotations

from dataclasses import dataclass

from .draw import Draw
from .draw.filters import Filters
from .draw.greedy import Greedy
from .draw.multinomial import Multinomial
from .generation_config import ORIGIN, GenerationConfig
from .order import ORDERS
from .reveal import Reveal
from .reveal.origin import Origin
from .reveal.quota import Quota
from .reveal.ranking import Ranking
from .reveal.threshold import ConfidenceThreshold
from .schedule import Schedule


@dataclass(frozen=True)
class Method:
    """How a canvas is denoised."""

    draw: Draw
    reveal: Reveal
    schedule: Schedule

    @classmethod
    def of(cls, config: GenerationConfig, masked: int) -> Method:
        """The method that `config` describes, for a canvas with `masked` masks a sequence."""
        return cls(_draw(config), _reveal(config), Schedule(steps=config.steps or max(masked, 1), eps=config.eps))


def _draw(config: GenerationConfig) -> Draw:
    filters = Filters(top_p=config.top_p, top_k=config.top_k)
    if config.temperature > 0:
        return Multinomial(temperature=config.temperature, filters=filters)
    return Greedy(filters=filters)


def _reveal(config: GenerationConfig) -> Reveal:
    """`origin` orders nothing: with a threshold, the most probable token comes first."""
    if config.threshold is None and config.algorithm == ORIGIN:
        return Origin()
    order = ORDERS["maskgit_plus" if config.algorithm == ORIGIN else config.algorithm]()
    ranking = Ranking(order, config.algorithm_temperature)
    if config.threshold is not None:
        return ConfidenceThreshold(ranking=ranking, threshold=config.threshold)
    return Quota(ranking)
