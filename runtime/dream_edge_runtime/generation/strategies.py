"""From a configuration to the strategies that carry it out."""

from __future__ import annotations

from collections.abc import Callable

from ..format.model_config import ModelConfig
from ..inference.network import Network
from .caching import CachedPasses
from .canvas import Canvas
from .config import DEFAULT_BLOCK, ORIGIN, GenerationConfig
from .logit_bias import Bias, EosPenalty, Forbidden
from .order import ORDERS
from .pace import Pace
from .passes import FullPasses, Passes
from .resize import ElasticHoles
from .reveal import Reveal
from .reveal.entropy_bound import EntropyBound
from .reveal.factor import ConfidenceFactor
from .reveal.klass import StableAndSure
from .reveal.local_leap import LocalLeap
from .reveal.one_by_one import OneByOne
from .reveal.origin import Origin
from .reveal.quota import Quota
from .reveal.ranking import Ranking
from .reveal.sched import EarlyExit
from .reveal.threshold import ConfidenceThreshold
from .reveal.unrepeated import Unrepeated
from .sampling import Draw
from .sampling.filters import Filters
from .sampling.greedy import Greedy
from .sampling.multinomial import Multinomial


def paces_for(config: GenerationConfig, canvas: Canvas) -> list[Pace]:
    """How each sequence of `canvas`, not yet begun, goes through its masks."""
    return [
        Pace(masked, config.steps or max(1, int(masked.sum())), config.eps, config.block_length)
        for masked in canvas.masked
    ]


def fitted(config: GenerationConfig, canvas: Canvas) -> GenerationConfig:
    """`config` with its "auto" cache decided: dual, in blocks, where a block is at most a quarter of the canvas."""
    if config.cache != "auto":
        return config
    block = config.block_length or DEFAULT_BLOCK
    if canvas.ids.shape[1] < 4 * block:
        return config.replace(cache="none")
    return config.replace(cache="dual", block_length=block)


def passes_for(network: Network, config: GenerationConfig) -> Passes:
    """What one generation asks of the network at each step. `config` is fitted."""
    if config.cache == "none" and config.suffix_window is None:
        return FullPasses(network)
    return CachedPasses(network, config.cache, config.suffix_window)


def biases_for(config: GenerationConfig, model: ModelConfig, elastic: ElasticHoles | None = None) -> tuple[Bias, ...]:
    """What is changed in the logits of every step of a sequence whose holes are `elastic`, or not."""
    biases: list[Bias] = []
    if elastic is not None:
        biases.append(elastic)
    elif model.expand_token_id is not None:
        biases.append(Forbidden(model.expand_token_id))
    if config.eos_penalty:
        scheduled = elastic is None and config.block_length is None and isinstance(reveal_for(config), Origin | Quota)
        biases.append(EosPenalty(model.pad_token_id, config.eos_penalty, config.eps, scheduled))
    return tuple(biases)


def elastic_pace(config: GenerationConfig, canvas: Canvas, row: int, elastic: ElasticHoles) -> Pace:
    """As many steps for each block as there can be: every one settles, deletes or expands a mask."""
    masked = canvas.masked[row]
    most = int(masked.sum()) + 2 * elastic.budget
    blocks = 1 if config.block_length is None else -(-int(masked.sum()) // config.block_length)
    return Pace(masked, max(1, most * blocks), config.eps, config.block_length)


def elastic_reveal(config: GenerationConfig, marks: frozenset[int] = frozenset()) -> Reveal:
    """One token at a step, as upstream, unless a strategy without a schedule was chosen. `origin` orders nothing; the
    order is then that of DreamOn's own examples. `marks`, which make a hole grow or shrink, may come in a row.
    """
    reveal = reveal_for(config, marks)
    if isinstance(reveal, Origin):
        return OneByOne(Ranking(ORDERS["entropy"](), config.algorithm_temperature))
    return OneByOne(reveal.ranking) if isinstance(reveal, Quota) else reveal


def draw_for(config: GenerationConfig) -> Draw:
    """How tokens are drawn."""
    filters = Filters(top_p=config.top_p, top_k=config.top_k)
    if config.temperature > 0:
        return Multinomial(temperature=config.temperature, filters=filters)
    return Greedy(filters=filters)


STRATEGIES: dict[str, Callable[[Ranking, float], Reveal]] = {
    "threshold": lambda ranking, value: ConfidenceThreshold(ranking=ranking, threshold=value),
    "factor": lambda ranking, value: ConfidenceFactor(ranking=ranking, factor=value),
    "entropy_bound": lambda ranking, value: EntropyBound(ranking=ranking, bound=value),
    "sched": lambda ranking, value: EarlyExit(ranking=ranking, margin=value),
    "local_leap": lambda ranking, value: LocalLeap(ranking=ranking, relaxed=value),
    "klass": lambda ranking, value: StableAndSure(ranking=ranking, bound=value),
}
"""What carries out each field of `PARALLEL`."""


def reveal_for(config: GenerationConfig, ends: frozenset[int] = frozenset()) -> Reveal:
    """How one sequence, whose text may end in a run of `ends`, reveals its tokens.

    `origin` orders nothing: where several tokens are revealed at once, the most probable comes first.
    """
    if config.algorithm == ORIGIN and not config.parallel:
        return Origin()
    order = ORDERS["maskgit_plus" if config.algorithm == ORIGIN else config.algorithm]()
    ranking = Ranking(order, config.algorithm_temperature)
    if config.parallel:
        return Unrepeated(STRATEGIES[config.parallel](ranking, getattr(config, config.parallel)), ends)
    return Quota(ranking)
