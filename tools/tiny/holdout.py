"""Which texts are kept out of training: a property of the text (a hash), so that training and scoring agree."""

import zlib

from dream_edge.tasks.task import HELD_OUT_SHARE


def text_held_out(text: str) -> bool:
    """Whether the case that this text states is held out."""
    return zlib.crc32(text.encode()) % HELD_OUT_SHARE == 0
