"""From a configuration to the strategies that carry it out."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidOption
from ..format.model_config import ModelConfig
from ..inference.network import Network
from .canvas import Canvas
from .config import ORIGIN, GenerationConfig
from .finished_blocks import BlockStore, FinishedBlocks
from .kv_cache import BlockCache, KvCache, NoCache
from .length import ElasticHoles
from .logit_bias import EosPenalty, Forbidden, LogitBias
from .order import ORDERS, Ranking
from .reveal import Reveal
from .reveal.parallel import Unrepeated
from .reveal.scheduled import OneByOne, Origin, Quota
from .sampling import Filters, Greedy, Judged, Multinomial, Sampler
from .schedule import Blocks, BlockSchedule, CausalBlocks


def check_attention(config: GenerationConfig, model: ModelConfig) -> None:
    """Raises InvalidOption for what does not go with the attention of `model`."""
    block = model.causal_block
    if block is None:
        if config.align != "prompt":
            raise InvalidOption("align", config.align, "needs a block-causal model: leave it out for this one")
        return
    kept = "does not go with a block-causal model, which keeps finished blocks anyway, exactly: leave it out"
    unseen = "does not go with a block-causal model, which sees nothing after the block it is in: leave it out"
    grows = "does not go with a block-causal model, whose text grows block by block anyway: leave it out"
    if config.cache != "none":
        raise InvalidOption("cache", config.cache, kept)
    for name, why in (("suffix_window", unseen), ("grow_from", grows)):
        if getattr(config, name) is not None:
            raise InvalidOption(name, getattr(config, name), why)
    if config.block_length is not None and config.block_length > block:
        raise InvalidOption("block_length", config.block_length, f"must be at most {block}, the block of this model")


def align_blocks(config: GenerationConfig, block: int, start: int) -> int:
    """How many positions before its first token the first `block` of a sequence begins, if its masks do at `start`."""
    return -start % block if config.align == "answer" else 0


def align_sequences(config: GenerationConfig, canvas: Canvas, model: ModelConfig) -> list[int]:
    """How many positions before its first token the first block of each sequence of `canvas` begins."""
    block = model.causal_block or 1
    return [align_blocks(config, block, holes[0].start) if holes else 0 for holes in canvas.holes]


def plan_blocks(config: GenerationConfig, canvas: Canvas, model: ModelConfig) -> list[Blocks]:
    """Plan how each sequence of `canvas`, not yet begun, goes through its masks."""
    if model.causal_block is not None:
        options: dict[str, Any] = {"steps": config.steps, "eps": config.eps, "length": config.block_length}
        offsets = align_sequences(config, canvas, model)
        return [CausalBlocks(canvas, row, model.causal_block, offset, **options) for row, offset in enumerate(offsets)]
    return [
        BlockSchedule(masked, config.steps or max(1, int(masked.sum())), config.eps, config.block_length)
        for masked in canvas.masked
    ]


def create_cache(
    network: Network, config: GenerationConfig, canvas: Canvas, store: BlockStore | None = None
) -> KvCache:
    """What one generation asks of the network at each step."""
    if network.config.causal_block is not None:
        offsets = align_sequences(config, canvas, network.config)
        return FinishedBlocks(network, offsets, store) if network.keeps_keys else NoCache(network, offsets)
    if config.cache == "none" and config.suffix_window is None:
        return NoCache(network)
    return BlockCache(network, config.cache, config.suffix_window)


def look_ahead(config: GenerationConfig, ends: frozenset[int]) -> frozenset[int] | None:
    """`SequencePlan.ahead`: who waits for what is sure takes it wherever a pass over everything finds it."""
    sure = config.parallel and not config.parallel[0].as_published
    return ends if sure and config.cache == "auto" else None


def create_biases(
    config: GenerationConfig, model: ModelConfig, elastic: ElasticHoles | None = None
) -> tuple[LogitBias, ...]:
    """What is changed in the logits of every step of a sequence whose holes are `elastic`, or not."""
    biases: list[LogitBias] = []
    if elastic is not None:
        biases.append(elastic)
    elif model.expand_token_id is not None:
        biases.append(Forbidden(model.expand_token_id))
    if config.eos_penalty:
        scheduled = (
            elastic is None
            and config.block_length is None
            and model.causal_block is None
            and isinstance(create_reveal(config), Origin | Quota)
        )
        biases.append(EosPenalty(model.pad_token_id, config.eos_penalty, config.eps, scheduled))
    return tuple(biases)


def plan_elastic_blocks(config: GenerationConfig, canvas: Canvas, row: int, elastic: ElasticHoles) -> BlockSchedule:
    """Plan an upper bound of steps for each block: each one settles, deletes or expands a mask."""
    masked = canvas.masked[row]
    most = int(masked.sum()) + 2 * elastic.budget
    blocks = 1 if config.block_length is None else -(-int(masked.sum()) // config.block_length)
    return BlockSchedule(masked, max(1, most * blocks), config.eps, config.block_length)


def create_elastic_reveal(config: GenerationConfig, marks: frozenset[int] = frozenset()) -> Reveal:
    """One token at a step, as upstream, unless a strategy without a schedule was chosen. `origin` orders nothing; the
    order is then that of DreamOn's own examples. `marks`, which make a hole grow or shrink, may come in a row.
    """
    reveal = create_reveal(config, marks)
    if isinstance(reveal, Origin):
        return OneByOne(Ranking(ORDERS["entropy"](), config.algorithm_temperature))
    return OneByOne(reveal.ranking) if isinstance(reveal, Quota) else reveal


def create_sampler(config: GenerationConfig) -> Sampler:
    """How tokens are drawn and judged. With the official schedule as upstream; where a step reveals what is sure, what
    counts as sure does not depend on how tokens are drawn."""
    filters = Filters(top_p=config.top_p, top_k=config.top_k)
    if config.parallel and not config.parallel[0].as_published:
        return Judged(draw_temperature=config.temperature, filters=filters)
    if config.temperature > 0:
        return Multinomial(temperature=config.temperature, filters=filters)
    return Greedy(filters=filters)


def create_reveal(config: GenerationConfig, ends: frozenset[int] = frozenset()) -> Reveal:
    """How one sequence, whose text may end in a run of `ends`, reveals its tokens.

    `origin` orders nothing: where several tokens are revealed at once, the most probable comes first.
    """
    if config.algorithm == ORIGIN and not config.parallel:
        return Origin()
    order = ORDERS["maskgit_plus" if config.algorithm == ORIGIN else config.algorithm]()
    ranking = Ranking(order, config.algorithm_temperature)
    if config.parallel:
        strategy, value = config.parallel
        reveal = strategy(ranking=ranking, value=value)
        return reveal if strategy.as_published else Unrepeated(reveal, ends)
    return Quota(ranking)
