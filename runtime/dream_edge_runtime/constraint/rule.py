"""What a text is held to, as callers say it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ..errors import InvalidOption
from ..text.tokenizer import Tokenizer
from .automaton import Automaton
from .errors import ConstraintTooLarge
from .pattern import Pattern, either
from .regex import read_regex
from .schema import read_schema
from .token_automaton import TokenAutomaton
from .vocabulary import Vocabulary

RULES = ("json_schema", "regex", "choices")
MOST_CHOICES = 10_000
_KEPT = 8


@dataclass(frozen=True)
class Rule:
    """A JSON schema, a regular expression or a list of texts, one of which a text must match."""

    kind: Literal["json_schema", "regex", "choices"]
    source: str
    """As JSON."""

    def read(self) -> Pattern:
        """The texts that match.

        Raises:
            InvalidSchema, InvalidRegex: it is none.
            ConstraintTooLarge: it is too much to read.
        """
        source = json.loads(self.source)
        if self.kind == "json_schema":
            return read_schema(source)
        return read_regex(source) if self.kind == "regex" else either(*source)

    def compile(self, tokenizer: Tokenizer) -> TokenAutomaton:
        """What reads the tokens of `tokenizer`; made once.

        Raises:
            InvalidSchema, InvalidRegex, ConstraintError: it is none, or nothing matches it.
            ConstraintTooLarge: it would take too long.
        """
        return _compile(self, tokenizer)


def read_rule(options: Mapping[str, Any]) -> Rule | None:
    """The one of `RULES` that `options` name; None where they name none.

    Raises:
        InvalidOption: they name two, or a value is of the wrong type.
    """
    named = [name for name in RULES if options.get(name) is not None]
    if len(named) > 1:
        raise InvalidOption(named[1], options[named[1]], f"does not go with {named[0]}: name one of them")
    for name in named:
        value = options[name]
        if name == "json_schema":
            if value is not True and not isinstance(value, Mapping):
                raise InvalidOption(name, value, "must be a JSON schema, a dict, or True for any object")
            return Rule("json_schema", _write(name, {"type": "object"} if value is True else value))
        if name == "regex":
            if not isinstance(value, str):
                raise InvalidOption(name, value, "must be a regular expression, as text")
            return Rule("regex", _write(name, value))
        texts = (
            isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)
        )
        if not texts or not value:
            raise InvalidOption(name, value, "must be a list of texts, at least one")
        if len(value) > MOST_CHOICES:
            raise ConstraintTooLarge(f"{len(value):,} choices, where {MOST_CHOICES:,} are the most")
        return Rule("choices", _write(name, list(value)))
    return None


def _write(name: str, value: Any) -> str:
    """`value` as JSON; what is equal is written equally, and properties keep their order."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(name, value, f"must be JSON ({error})") from None


@lru_cache(1)
def _spell(tokenizer: Tokenizer) -> Vocabulary:
    return Vocabulary(tokenizer.token_bytes())


@lru_cache(_KEPT)
def _compile(rule: Rule, tokenizer: Tokenizer) -> TokenAutomaton:
    return TokenAutomaton(Automaton.of(rule.read()), _spell(tokenizer))
