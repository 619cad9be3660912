"""What can be wrong with a constraint."""

from __future__ import annotations

from ..errors import DreamEdgeError


class ConstraintError(DreamEdgeError, ValueError):
    """No text can be held to it."""


class InvalidRegex(ConstraintError):
    """A regular expression that is none, or says what no automaton can read."""

    def __init__(self, regex: str, why: str) -> None:
        super().__init__(f"regex {regex!r:.200}: {why}.")


class InvalidSchema(ConstraintError):
    """A JSON schema that is none, or says what cannot be kept."""

    def __init__(self, path: str, why: str) -> None:
        self.path: str = path
        super().__init__(f"JSON schema, at {path or 'its top'}: {why}.")


class ConstraintTooLarge(ConstraintError):
    """It would take too long, or too much memory, to hold a text to it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the constraint is too large: {what}. Allow fewer repetitions, options or levels.")


class TooLittleRoom(ConstraintError):
    """No text that matches fits the tokens there are.

    Attributes:
        shortest: tokens of the shortest that matches.
        room: tokens there are.
    """

    def __init__(self, shortest: int, room: int) -> None:
        self.shortest: int = shortest
        self.room: int = room
        fit = f"there is room for {room}" if shortest > room else f"none takes just {room}"
        remedy = "Raise max_new_tokens, or the hole's size." if shortest > room else "Give the hole another size."
        super().__init__(f"the shortest text that matches the constraint takes {shortest} tokens, and {fit}. {remedy}")
