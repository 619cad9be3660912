"""The fields of a request that are options of a generation, made from the runtime's table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from dream_edge_runtime.generation.config import OPTIONS
from dream_edge_runtime.generation.option import Choice, Flag, Integer, Kind, Real
from dream_edge_runtime.generation.options import PRESETS
from dream_edge_runtime.generation.reveal import StrategyName

LARGEST_INTEGER = (1 << 63) - 1
_ELSEWHERE = ("max_new_tokens", "seed", "stop")  # under OpenAI's names, or with its meaning of null


def generation_fields(base: type[BaseModel]) -> type[BaseModel]:
    """Derive from `base` a model with a field for each option of `DreamModel.generate`; null asks for nothing."""
    fields: dict[str, Any] = {
        name: (_annotate(option.kind) | None, Field(default=None, description=option.explain()))
        for name, option in OPTIONS.items()
        if name not in _ELSEWHERE
    }
    presets = " ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items())
    fields["preset"] = (Literal[tuple(PRESETS)] | None, Field(default=None, description=presets))
    fields["exact"] = (bool | None, Field(default=None, description="The same as the preset exact."))
    return create_model("GenerationFields", __base__=base, **fields)


def read_options(request: BaseModel) -> dict[str, Any]:
    """The keywords of `DreamModel.generate` that were given. Length, seed and stop are not among them."""
    names = (*(name for name in OPTIONS if name not in _ELSEWHERE), "preset", "exact")
    return {name: value for name in names if (value := getattr(request, name)) is not None}


def _annotate(kind: Kind) -> Any:
    if isinstance(kind, Integer):
        return Annotated[int, Field(ge=kind.least, le=LARGEST_INTEGER if kind.most is None else kind.most)]
    if isinstance(kind, Real):
        low: dict[str, Any] = {"gt": kind.low} if kind.open_low else {"ge": 0 if kind.or_zero else kind.low}
        high: dict[str, Any] = {"lt": kind.high} if kind.open_high else {"le": kind.high}
        return Annotated[float, Field(allow_inf_nan=False, **low, **high)]
    if isinstance(kind, Choice):
        return Literal[kind.names]
    return {Flag: bool, StrategyName: Annotated[str, Field(max_length=64)]}[type(kind)]
