"""The bodies that are understood: OpenAI's fields, Dream's own beside them; nothing is ignored in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .generation_fields import LARGEST_INTEGER, generation_fields, read_options

MOST_CHOICES = 8
_MOST_TEXT = 1 << 22

Text = Annotated[str, Field(max_length=_MOST_TEXT)]
Tokens = Annotated[int, Field(ge=1, le=1 << 20)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Stop = str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)]


Nothing = Annotated[list[Any], Field(max_length=0)] | None


class Strict(BaseModel):
    """A JSON object whose fields are all known. Null asks for nothing, whatever the field: clients send it for all that
    they leave out, and for all that an answer of OpenAI's could have had besides its text."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"additionalProperties": {"type": "null"}}
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class StreamOptions(Strict):
    """What a stream carries besides the text."""

    include_usage: bool = Field(default=False, description="One more chunk at the end, with the usage and no choice.")
    include_obfuscation: bool | None = Field(default=None, description="Accepted and without effect.")
    include_cells: bool = Field(
        default=False,
        description="With `diffusing`: each chunk names the cells of the canvas, for a view of the denoising.",
    )


if TYPE_CHECKING:
    GenerationFields = Strict
else:
    GenerationFields = generation_fields(Strict)


class Sampling(GenerationFields):
    """What all the ways to ask for a text share."""

    model: Annotated[str, Field(max_length=512)] | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES, description="Texts, each with the seed one higher.")
    seed: int | None = Field(default=None, ge=-1, le=LARGEST_INTEGER, description="-1: a new one each time.")
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    diffusing: bool = Field(
        default=False, description="Chunks of a stream replace the text so far instead of adding to it."
    )
    user: str | None = Field(default=None, description="Accepted and without effect, as are the five that follow.")
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None

    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = Field(
        default=None, description="0: there is no such thing."
    )
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = Field(
        default=None, description="0: there is no such thing."
    )
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = Field(default=None, description="Empty.")

    @field_validator("seed")
    @classmethod
    def _seed_is_chosen(cls, seed: int | None) -> int | None:
        return None if seed == -1 else seed

    @field_validator("stop")
    @classmethod
    def _stop_is_text(cls, stop: Stop | None) -> Stop | None:
        return stop or None  # "" and [] mean none, as clients send them

    @model_validator(mode="after")
    def _streams_only(self) -> Sampling:
        if not self.stream and (self.diffusing or self.stream_options):
            raise ValueError("diffusing and stream_options are for streams: give stream too, or leave them out")
        if self.stream_options and self.stream_options.include_cells and not self.diffusing:
            raise ValueError("include_cells is for streams with diffusing: give that too, or leave it out")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def options(self) -> dict[str, Any]:
        """The keywords of `DreamModel.generate` that were given. Length, seed and stop are not among them."""
        return read_options(self)


class TextPart(Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
    name: str | None = Field(default=None, description="Accepted and without effect, as are those that follow.")
    id: str | int | None = None
    opts: dict[str, Any] | None = None
    reasoning_content: str | None = None
    tool_calls: Nothing = None

    def turn(self) -> dict[str, str]:
        """As the model takes it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class TemplateOptions(Strict):
    """What clients of other servers pass to a chat template."""

    enable_thinking: bool | None = Field(default=None, description="The same as `thinking`.")


class ResponseFormat(Strict):
    """Only text."""

    type: Literal["text"]


class ChatRequest(Sampling):
    """POST /v1/chat/completions"""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    end_with: Text = Field(default="", description="The last words of the answer, fixed from the start.")
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    response_format: ResponseFormat | None = None
    tools: Nothing = Field(default=None, description="Empty: this model calls none.")
    functions: Nothing = Field(default=None, description="Empty.")
    tool_choice: Literal["none", "auto"] | None = None
    function_call: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None

    @model_validator(mode="after")
    def _one_thinking(self) -> ChatRequest:
        if super().options().get("thinking", self.options().get("thinking")) != self.options().get("thinking"):
            raise ValueError("thinking and chat_template_kwargs.enable_thinking contradict each other: give one")
        return self

    def options(self) -> dict[str, Any]:
        """See `Sampling.options`."""
        asked = self.chat_template_kwargs and self.chat_template_kwargs.enable_thinking
        return super().options() | ({} if asked is None else {"thinking": asked})

    @model_validator(mode="after")
    def _one_length(self) -> ChatRequest:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens contradict each other: give one")
        return self

    @property
    def length(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Sampling):
    """POST /v1/completions"""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]
    suffix: Text | None = Field(default=None, description="What comes after the text: it is then filled in between.")
    max_tokens: Tokens = 16
    end_with: Text = Field(
        default="", description="The last words of the text, fixed from the start. Not with a suffix."
    )
    echo: bool = False
    logprobs: None = None
    best_of: Literal[1] | None = None

    @model_validator(mode="after")
    def _one_ending(self) -> CompletionRequest:
        if self.suffix and self.end_with:
            raise ValueError("suffix and end_with contradict each other: give one")
        return self

    @property
    def prefix(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class FimRequest(Sampling):
    """POST /v1/fim/completions"""

    prompt: Text
    suffix: Text = ""
    max_tokens: Tokens = 32


class TextPiece(Strict):
    """Text that stays."""

    text: Text


class HolePiece(Strict):
    """A number of tokens to be found."""

    hole: Tokens


class RewritePiece(Strict):
    """Text to be replaced by as many tokens as it has."""

    rewrite: Text


class FillRequest(Sampling):
    """POST /v1/fill"""

    pieces: Annotated[list[TextPiece | HolePiece | RewritePiece], Field(min_length=1, max_length=4096)]
    bos: bool = Field(default=False, description="Begin with the bos token.")

    @field_validator("stop")
    @classmethod
    def _no_stop(cls, stop: Stop | None) -> None:
        if stop:
            raise ValueError("does not apply to texts with holes: nothing of them is cut")


class AlternativesRequest(Strict):
    """POST /v1/alternatives"""

    model: Annotated[str, Field(max_length=512)] | None = None
    messages: Annotated[list[ChatMessage], Field(max_length=1024)] = Field(
        default_factory=list, description="The conversation that the text is the answer to, if it is one."
    )
    before: Text = ""
    after: Text = ""
    count: Annotated[int, Field(ge=1, le=64)] = 8


class InfillRequest(Strict):
    """POST /infill, as llama.cpp has it. Its other sampling fields are accepted and without effect."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", json_schema_extra={})

    input_prefix: Text = ""
    input_suffix: Text = ""
    input_extra: list[dict[str, Any]] | None = Field(default=None, description="Accepted and without effect.")
    prompt: Text = Field(default="", description="Added to the end of input_prefix.")
    n_predict: Annotated[int, Field(ge=-1, le=1 << 20)] = Field(default=32, description="-1: 32.")
    temperature: float | None = Field(default=None, ge=0, le=1e4, allow_inf_nan=False)
    top_p: Share | None = None
    top_k: int | None = Field(default=None, ge=0, le=1 << 20)
    seed: int | None = Field(default=None, ge=-1, le=LARGEST_INTEGER)
    stop: Stop | None = None
    stream: bool = False

    def as_fim(self) -> FimRequest:
        """The same, asked in the other way."""
        return FimRequest.model_validate(
            {
                "prompt": self.input_prefix + self.prompt,
                "suffix": self.input_suffix,
                "max_tokens": self.n_predict if self.n_predict > 0 else 32,
                "temperature": self.temperature,
                "top_p": self.top_p,
                "top_k": self.top_k or None,
                "seed": self.seed,
                "stop": self.stop or None,
                "stream": self.stream,
            }
        )
