"""What the bodies of requests are made of: strict objects, bounded texts, and the fields that cannot matter here."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

_MOST_TEXT = 1 << 22

Text = Annotated[str, Field(max_length=_MOST_TEXT)]
Tokens = Annotated[int, Field(ge=1, le=1 << 20)]
Schema = dict[str, Any]


class Strict(BaseModel):
    """A JSON object whose fields are all known. Null asks for nothing, whatever the field: clients send it for all that
    they leave out, and for all that an answer of OpenAI's could have had besides its text."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"additionalProperties": {"type": "null"}}
    )
    unused: ClassVar[frozenset[str]] = frozenset()
    """Fields that are accepted, whatever they hold, since nothing of them concerns the text."""
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Values of fields that are not known, or are stricter, which ask for nothing."""
    _ignored: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _leave_out(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, dict):
            return validate(given)
        kept = {name: value for name, value in given.items() if value is not None}
        kept = {name: value for name, value in kept.items() if not _is_in(value, cls.neutral.get(name, ()))}
        made = validate({name: value for name, value in kept.items() if name not in cls.unused})
        made._ignored = tuple(name for name in kept if name in cls.unused)
        return made

    @property
    def ignored(self) -> tuple[str, ...]:
        """The fields that were given and have no effect."""
        return self._ignored


UNUSED_FIELDS = frozenset(
    {
        *("user", "metadata", "store", "safety_identifier", "service_tier", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "verbosity"),
        *("cache_prompt", "id_slot", "keep_alive", "guided_decoding_backend"),
        *("timings_per_token", "return_progress", "return_tokens"),
    }
)
"""Of requests: OpenAI's fields that are about its own service, and other servers' about how they work."""
NEUTRAL_FIELDS: dict[str, tuple[Any, ...]] = {
    "seed": (-1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "mirostat": (0,),
    "best_of": (1,),
    "ignore_eos": (False,),
    "modalities": (["text"],),
    "nextEdit": (False,),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
"""Of requests: how other servers' clients say that a sampler is off, and more that asks for nothing."""


def _is_in(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether `value` is one of `values`; no number is a truth value."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)
