"""How a score is decoded: by so many tokens a step, a threshold, a strategy, or a preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.config import ORIGIN, GenerationConfig
from dream_edge_runtime.generation.options import DEFAULT_PRESET, PRESETS, resolve
from dream_edge_runtime.generation.strategies import check_attention

from ..tasks.scoring import OFFICIAL

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

ONE = "1"
"""One token a step, with which every other setting is compared."""
USUAL = (DEFAULT_PRESET, "2", "4")


@dataclass(frozen=True)
class Setting:
    """A way to decode, greedily: the preset of this name, or what `reveal` says and no cache."""

    name: str
    reveal: str | None = None

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read "2" (tokens a step), "0.9" (a threshold), "factor:0.5" (a strategy) or the name of a preset.

        Raises:
            InvalidOption: it is none of them.
        """
        if text in PRESETS:
            return cls(text)
        reveal = f"count:{text}" if text.isdecimal() else f"threshold:{text}" if ":" not in text else text
        try:
            GenerationConfig(reveal=reveal)
        except InvalidOption:
            requirement = (
                f"must be tokens a step (2), a threshold (0.9), a strategy (factor:0.5), or one of {', '.join(PRESETS)}"
            )
            raise InvalidOption("settings", text, requirement) from None
        return cls(text, reveal)

    def settle(self, model: DreamModel) -> GenerationConfig:
        """What this means to `model`. A checkpoint that reveals at random (`origin`) gets the order of Dream's own
        evaluations instead, but for its presets.

        Raises:
            InvalidOption: it does not go with the model.
        """
        if self.reveal is None:
            block_causal = model.config.causal_block is not None
            greedy = {"preset": self.name, "temperature": 0.0, "seed": 0}
            config, _ = resolve(model.defaults, None, greedy, block_causal=block_causal)
        else:
            order = model.defaults.algorithm
            config = model.defaults.replace(
                algorithm=OFFICIAL["algorithm"] if order == ORIGIN else order,
                temperature=0.0,
                threshold=None,
                reveal=self.reveal,
                cache="none",
                steps=None,
                stop_at_end=True,
                seed=0,
            )
        check_attention(config, model.config)
        return config

    @property
    def expected_steps(self) -> float:
        """Of each token, roughly: a guess from which time is estimated."""
        return 1 / int(self.name) if self.name.isdecimal() else 0.5


def parse_settings(settings: Sequence[str]) -> tuple[Setting, ...]:
    """One token a step, then `settings`, each once."""
    return tuple(Setting.parse(text) for text in dict.fromkeys((ONE, *settings)))
