"""The bodies that are understood: OpenAI's fields, Dream's own beside them; nothing is ignored in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from dream_edge_runtime.text.template import Draft

from .conversation import ChatMessage, Tool, ToolChoice
from .fields import NEUTRAL_FIELDS, UNUSED_FIELDS, Schema, Strict, Text, Tokens
from .generation_fields import LARGEST_INTEGER, generation_fields, read_options
from .structure import Structured, StructuredText

MOST_CHOICES = 8
MOST_PROMPTS = 16
_COLDEST = 1e-4  # below it, clients mean 0

Token = Annotated[int, Field(ge=0, le=1 << 31)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Stop = str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)]


class StreamOptions(Strict):
    """What a stream carries besides the text."""

    include_usage: bool = Field(default=False, description="One more chunk at the end, with the usage and no choice.")
    include_obfuscation: bool | None = Field(default=None, description="Accepted and without effect.")
    include_cells: bool = Field(
        default=False,
        description="With `diffusing`: each chunk names the cells of the canvas, for a view of the denoising.",
    )
    whole_blocks: bool = Field(default=False, description="What is added is sent when its block is done, not before.")


if TYPE_CHECKING:
    GenerationFields = StructuredText
else:
    GenerationFields = generation_fields(StructuredText)


class Sampling(GenerationFields):
    """What all the ways to ask for a text share."""

    unused: ClassVar[frozenset[str]] = UNUSED_FIELDS
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = NEUTRAL_FIELDS

    model: Annotated[str, Field(max_length=512)] | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES, description="Texts, each with the seed one higher.")
    seed: int | None = Field(default=None, ge=0, le=LARGEST_INTEGER, description="-1: a new one each time.")
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    diffusing: bool = Field(
        default=False, description="Chunks of a stream replace the text so far instead of adding to it."
    )
    frequency_penalty: Penalty = Field(
        default=0, description="Taken from the logit of a token for each time that the text so far has it."
    )
    presence_penalty: Penalty = Field(default=0, description="The same, once.")
    logit_bias: Annotated[dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias], Field(max_length=1024)] = Field(
        default_factory=dict, description="Added to the logits of tokens, by id; -100 forbids one."
    )

    @field_validator("temperature", check_fields=False)
    @classmethod
    def _cold_is_zero(cls, temperature: float | None) -> float | None:
        return 0.0 if temperature is not None and temperature < _COLDEST else temperature

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
        if self.stream_options and self.stream_options.whole_blocks and self.diffusing:
            raise ValueError("whole_blocks is for streams that add to the text: leave it out, or diffusing")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def options(self) -> dict[str, Any]:
        """The keywords of `DreamModel.generate` that were given. Length, seed and stop are not among them."""
        return read_options(self)


class TemplateOptions(Strict):
    """What clients of other servers pass to a chat template."""

    enable_thinking: bool | None = Field(default=None, description="The same as `thinking`.")


class ChatRequest(Sampling):
    """POST /v1/chat/completions"""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    end_with: Text = Field(default="", description="The last words of the answer, fixed from the start.")
    logprobs: bool = Field(default=False, description="Of the step at which each token was settled.")
    top_logprobs: int = Field(default=0, ge=0, le=20)
    tools: Annotated[list[Tool], Field(max_length=128)] = Field(default_factory=list)
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = Field(default=True, description="False: what comes after the first call is left out.")
    chat_template_kwargs: TemplateOptions | None = None

    @model_validator(mode="after")
    def _tools_are_there(self) -> ChatRequest:
        if self.tool_choice not in ("none", "auto") and not self.called:
            raise ValueError("tool_choice asks for a tool that tools has not: name one of them")
        if self.offered and self.rules():
            raise ValueError("tools and what the text must look like exclude each other: give tool_choice none, or one")
        if self.called and self.end_with:
            raise ValueError("end_with does not go with a tool_choice that asks for a call: give one")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: give that too, or leave it out")
        if self.logprobs and self.end_with:
            raise ValueError("logprobs do not go with end_with: give one")
        return self

    @property
    def offered(self) -> list[Tool]:
        """The tools that may be called."""
        return [] if self.tool_choice == "none" else self.tools

    @property
    def called(self) -> list[Tool]:
        """Tools one of which is called for sure, if any is."""
        if isinstance(self.tool_choice, ToolChoice):
            return [tool for tool in self.tools if tool.function.name == self.tool_choice.function.name][:1]
        return self.tools if self.tool_choice == "required" else []

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

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = NEUTRAL_FIELDS | {
        "suffix": ("<|endoftext|>",)
    }  # Mercury's for none

    prompt: Text | Annotated[list[Text | Token | list[Token]], Field(min_length=1, max_length=1 << 20)] = Field(
        description="A text or the ids of its tokens, or several of them."
    )
    suffix: Text | None = Field(default=None, description="What comes after the text: it is then filled in between.")
    max_tokens: Tokens = 16
    end_with: Text = Field(
        default="", description="The last words of the text, fixed from the start. Not with a suffix."
    )
    echo: bool = False
    logprobs: None = None

    @model_validator(mode="after")
    def _one_ending(self) -> CompletionRequest:
        if self.suffix and self.end_with:
            raise ValueError("suffix and end_with contradict each other: give one")
        return self

    @model_validator(mode="after")
    def _few_prompts(self) -> CompletionRequest:
        if len({type(each) for each in self.prompt}) > 1:
            raise ValueError("prompt is a text, a list of texts, a list of tokens, or a list of such lists: no mixture")
        if len(self.prompts) > MOST_PROMPTS:
            raise ValueError(f"prompt has more than {MOST_PROMPTS} texts: ask for fewer at once")
        return self

    @property
    def prompts(self) -> list[Any]:
        """One, or several; each is a text or the ids of its tokens."""
        is_one = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return [self.prompt] if is_one else [*self.prompt]


class FimRequest(Sampling):
    """POST /v1/fim/completions"""

    prompt: Text
    suffix: Text = ""
    max_tokens: Tokens = 32


class TextPiece(Strict):
    """Text that stays."""

    text: Text


class HolePiece(Structured):
    """A number of tokens to be found, and what they have to match."""

    hole: Tokens


class RewritePiece(Strict):
    """Text to be replaced by as many tokens as it has."""

    rewrite: Text


class DraftPiece(Strict):
    """Text that stands, but for tokens that are unlikely there: they are written again."""

    draft: Annotated[Text, Field(min_length=1)]
    bound: float = Field(
        default=Draft.bound,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="What is less probable than this times the likeliest token in its place is doubted.",
    )
    groups: Tokens = Field(default=Draft.groups, description="The tokens are judged in so many groups, a pass each.")


class FillRequest(Sampling):
    """POST /v1/fill"""

    pieces: Annotated[list[TextPiece | HolePiece | RewritePiece | DraftPiece], Field(min_length=1, max_length=4096)]
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
    json_schema: Schema | None = None
    grammar: Literal[""] | None = None

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
                "json_schema": self.json_schema or None,
            }
        )
