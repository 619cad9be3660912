"""How a model reads a conversation, as data: what differs among checkpoints that all write ChatML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Thinking = Literal["none", "on", "off"]

LONGEST_SYSTEM = 1 << 14
"""Characters of a default system turn."""


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """What a manifest says of conversations. The markers of turns are ChatML's in every one."""

    system: str | None = "You are a helpful assistant."
    """The system turn of a conversation that has none of its own; None: it gets none."""
    thinking: Thinking = "none"
    """Whether the model thinks, in <think> … </think>, before it answers: never, or unless it is told not to ("on"), or
    only where it is told to ("off"). Of a model that can, earlier turns keep their answers alone."""

    def __post_init__(self) -> None:
        """Raise ValueError for what is no format: manifests come from strangers."""
        if self.system is not None and not (isinstance(self.system, str) and len(self.system) <= LONGEST_SYSTEM):
            raise ValueError(f"the default system turn is not a text of at most {LONGEST_SYSTEM} characters")
        if self.thinking not in get_args(Thinking):
            raise ValueError(f"thinking is {self.thinking!r:.80}, expected one of {', '.join(get_args(Thinking))}")


DREAM_CHAT = ChatFormat()
"""Dream's own."""
