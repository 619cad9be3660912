"""What a client wants a text to look like, in the words of OpenAI, vLLM and llama.cpp, and in those of this package."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dream_edge_runtime.files.json import parse_json_object

from .fields import Schema, Strict, Text

Choices = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=4096)]

ReadSchema = Annotated[
    Schema, BeforeValidator(lambda given: parse_json_object(given) if isinstance(given, str) else given)
]
"""A schema, or its JSON as text."""


class Structured(Strict):
    """What the text, or a hole of it, has to match: at most one of these."""

    json_schema: Schema | Literal[True] | None = Field(
        default=None, description="The text is JSON, and valid by this schema; true: any object."
    )
    regex: Text | None = Field(default=None, description="The text matches this regular expression, all of it.")
    choices: Choices | None = Field(default=None, description="The text is one of these.")

    def rules(self) -> dict[str, Any]:
        """The keywords of `DreamModel.generate` that say it."""
        found = {"json_schema": self.json_schema, "regex": self.regex, "choices": self.choices}
        return {name: value for name, value in found.items() if value is not None}

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        self.check_rules()
        return self

    def check_rules(self) -> None:
        """Raise ValueError where there are several."""
        if len(self.rules()) > 1:
            raise ValueError(f"{' and '.join(self.rules())} contradict each other: give one")


class NamedSchema(Strict):
    """A schema as OpenAI's response formats hold it."""

    name: str = ""
    description: str = ""
    strict: bool = Field(default=True, description="Without effect: the text is always valid.")
    form: Schema = Field(alias="schema")


class AnswerFormat(Strict):
    """OpenAI's way to ask for JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = Field(default=None, description="With json_schema.")
    form: Schema | None = Field(default=None, alias="schema", description="With json_object, as llama.cpp has it.")

    @model_validator(mode="after")
    def _has_its_own(self) -> AnswerFormat:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("json_schema goes with the type json_schema, and that with nothing else")
        if self.form is not None and self.type != "json_object":
            raise ValueError("schema goes with the type json_object; the type json_schema has its own inside")
        return self

    def rule(self) -> Schema | Literal[True] | None:
        """What `json_schema` is to be."""
        if self.json_schema is not None:
            return self.json_schema.form
        return (self.form or True) if self.type == "json_object" else None


class StructuredOutputs(Strict):
    """vLLM's."""

    form: ReadSchema | None = Field(default=None, alias="json")
    regex: Text | None = None
    choice: Choices | None = None


class StructuredText(Structured):
    """The same in other words too."""

    response_format: AnswerFormat | None = None
    structured_outputs: StructuredOutputs | None = Field(default=None, description="vLLM's words for the three.")
    guided_json: ReadSchema | None = Field(default=None, description="As json_schema: vLLM's older word.")
    guided_regex: Text | None = Field(default=None, description="As regex.")
    guided_choice: Choices | None = Field(default=None, description="As choices.")

    @model_validator(mode="after")
    def _said_once(self) -> StructuredText:
        outputs = self.structured_outputs or StructuredOutputs()
        said = self.response_format and self.response_format.rule()
        for name, values in (
            ("json_schema", (self.json_schema, said, outputs.form, self.guided_json)),
            ("regex", (self.regex, outputs.regex, self.guided_regex)),
            ("choices", (self.choices, outputs.choice, self.guided_choice)),
        ):
            given = [value for value in values if value is not None]
            if len(given) > 1:
                raise ValueError(f"what the text must look like is said twice, as {name} has it: say it once")
            setattr(self, name, given[0] if given else None)
        self.check_rules()
        return self
