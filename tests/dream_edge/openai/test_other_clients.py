"""Other clients, as they come, against a real server. What is not installed is skipped by name."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # what they warn of themselves

QUESTION = "What sound does the dog make?"


class Place(BaseModel):
    """Where it is."""

    city: str = Field(max_length=12)
    floor: int = Field(ge=0, le=9)


class Animal(BaseModel):
    """What it is."""

    kind: Literal["dog", "cat", "cow"]
    legs: int = Field(ge=0, le=8)
    home: Place


def look(city: str) -> str:
    """Look at a city."""
    return city


def test_langchain(url: str) -> None:
    langchain: Any = pytest.importorskip("langchain_openai", reason="needs langchain-openai")
    chat = langchain.ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=64, temperature=0)
    answer = chat.invoke(QUESTION)
    assert answer.content == "A dog barks."
    assert "".join(chunk.content for chunk in chat.stream(QUESTION)) == answer.content
    assert chat.batch([QUESTION, QUESTION])[1].content == answer.content
    assert answer.usage_metadata["output_tokens"] == 4
    asked = chat.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert len(asked.response_metadata["logprobs"]["content"]) == 4
    for method in ("json_schema", "function_calling"):
        found = chat.with_structured_output(Animal, method=method).invoke("A cow.")
        assert isinstance(found, Animal)
    mode = chat.bind(response_format={"type": "json_object"}).invoke("A cow, as JSON.")
    assert isinstance(json.loads(mode.content), dict)
    for choice in ("any", "look"):
        called = chat.bind_tools([look], tool_choice=choice).invoke("Look at Oslo.")
        assert [(call["name"], [*call["args"]]) for call in called.tool_calls] == [("look", ["city"])]
        streamed: Any = None
        for chunk in chat.bind_tools([look], tool_choice=choice).stream("Look at Oslo."):
            streamed = chunk if streamed is None else streamed + chunk
        assert [call["name"] for call in streamed.tool_calls] == ["look"]
    result = {"role": "tool", "content": "rain", "tool_call_id": called.tool_calls[0]["id"]}
    told = chat.bind_tools([look]).invoke([("user", QUESTION), called, result])
    assert isinstance(told.content, str)
    completion = langchain.OpenAI(base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=8, temperature=0)
    assert completion.generate(["The old man", "Yesterday"]).generations[1][0].text


def test_litellm(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the web for prices
    litellm: Any = pytest.importorskip("litellm", reason="needs litellm")
    asked: Any = {
        "model": "openai/tiny",
        "api_base": f"{url}/v1",
        "api_key": "none",
        "max_tokens": 64,
        "temperature": 0,
    }
    messages = [{"role": "user", "content": QUESTION}]
    answer = litellm.completion(messages=messages, **asked)
    assert answer.choices[0].message.content == "A dog barks."
    chunks = [*litellm.completion(messages=messages, stream=True, **asked)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "A dog barks."
    found = litellm.completion(messages=messages, response_format=Animal, **asked)
    Animal.model_validate_json(found.choices[0].message.content)
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    called = litellm.completion(messages=messages, tools=tools, tool_choice="required", **asked)
    assert "city" in json.loads(called.choices[0].message.tool_calls[0].function.arguments)
    text = litellm.text_completion(prompt="The old man", **asked | {"model": "text-completion-openai/tiny"})
    assert text.choices[0].text


NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none" });
const asked = { model: "tiny", max_tokens: 64, messages: [{ role: "user", content: process.argv[3] }] };
const told = {};
told.answer = (await client.chat.completions.create(asked)).choices[0].message.content;
told.streamed = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
    told.streamed += chunk.choices[0].delta.content ?? "";
const legs = { properties: { legs: { type: "integer" } }, required: ["legs"] };
const schema = { type: "object", additionalProperties: false, ...legs };
const format = { type: "json_schema", json_schema: { name: "animal", strict: true, schema } };
const parsed = await client.chat.completions.parse({ ...asked, response_format: format });
told.parsed = parsed.choices[0].message.content;
const tools = [{ type: "function", function: { name: "look", parameters: schema, strict: true } }];
const run = client.chat.completions.stream({ ...asked, tools, tool_choice: "required" });
told.called = (await run.finalChatCompletion()).choices[0].message.tool_calls[0].function;
told.models = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify(told));
"""


def test_openai_for_node(url: str, tmp_path: Path) -> None:
    told = run_in_node(tmp_path, NODE, [f"{url}/v1", QUESTION], "openai@6.49.0")
    assert told["answer"] == told["streamed"] == "A dog barks."
    assert isinstance(json.loads(told["parsed"])["legs"], int)
    assert told["called"]["name"] == "look"
    assert isinstance(json.loads(told["called"]["arguments"])["legs"], int)
    assert told["models"] == ["tiny"]


def test_anthropic(url: str) -> None:
    anthropic: Any = pytest.importorskip("anthropic", reason="needs anthropic")
    client = anthropic.Anthropic(base_url=url, api_key="none")
    asked: Any = {"model": "tiny", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
    answer = client.messages.create(**asked)
    assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == ("A dog barks.", "end_turn", 4)
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == "A dog barks."
        assert stream.get_final_message().usage == answer.usage
    assert isinstance(client.messages.parse(output_format=Animal, **asked).parsed_output, Animal)
    assert client.messages.count_tokens(model="tiny", messages=asked["messages"]).input_tokens == 26
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"name": "look", "description": "Look at a city.", "input_schema": schema}]
    for choice in ({"type": "any"}, {"type": "tool", "name": "look"}):
        called = client.messages.create(tools=tools, tool_choice=choice, **asked)
        assert [(block.type, [*block.input]) for block in called.content] == [("tool_use", ["city"])]
        with client.messages.stream(tools=tools, tool_choice=choice, **asked) as stream:
            assert [block.name for block in stream.get_final_message().content] == ["look"]
    result = {"type": "tool_result", "tool_use_id": called.content[0].id, "content": "rain"}
    turns = [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    told = client.messages.create(**asked | {"tools": tools, "messages": asked["messages"] + turns})
    assert told.content[0].type == "text"
    with pytest.raises(anthropic.NotFoundError, match="Leave `model` out"):
        client.messages.create(**asked | {"model": "claude"})

    def watch(city: str) -> str:
        """Watch a city."""
        return city

    assert [
        message.content[0].text
        for message in client.beta.messages.tool_runner(tools=[anthropic.beta_tool(watch)], **asked)
    ]


def test_openai_agents(url: str) -> None:
    agents: Any = pytest.importorskip("agents", reason="needs openai-agents")
    agents.set_tracing_disabled(True)

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            asked: Any = {"name": "a", "model": agents.OpenAIResponsesModel("tiny", client)}
            plain = await agents.Runner.run(agents.Agent(instructions="Be brief.", **asked), QUESTION)
            shaped = await agents.Runner.run(agents.Agent(output_type=Animal, **asked), QUESTION)
            asked |= {
                "tools": [agents.function_tool(look)],
                "model_settings": agents.ModelSettings(tool_choice="required"),
            }
            called = await agents.Runner.run(agents.Agent(**asked), QUESTION)
            streamed = agents.Runner.run_streamed(agents.Agent(**asked), QUESTION)
            assert [event async for event in streamed.stream_events()]
            return [plain.final_output, shaped.final_output, called.new_items, streamed.new_items]

    plain, shaped, called, streamed = asyncio.run(run())
    assert plain == "A dog barks."
    assert isinstance(shaped, Animal)
    kinds = ["tool_call_item", "tool_call_output_item", "message_output_item"]
    assert [item.type for item in called] == [item.type for item in streamed] == kinds


NEWER = """
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
const openai = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none" });
const told = {};
const asked = { model: "tiny", max_output_tokens: 64, input: process.argv[3] };
told.response = (await openai.responses.create(asked)).output_text;
told.responses = "";
for await (const event of await openai.responses.create({ ...asked, stream: true }))
    if (event.type === "response.output_text.delta") told.responses += event.delta;
const parameters = { type: "object", properties: { legs: { type: "integer" } }, required: ["legs"] };
const tools = [{ type: "function", name: "look", parameters, strict: false }];
const run = openai.responses.stream({ ...asked, tools, tool_choice: "required" });
told.called = (await run.finalResponse()).output[0].name;
const anthropic = new Anthropic({ baseURL: process.argv[2], apiKey: "none" });
const message = { model: "tiny", max_tokens: 64, messages: [{ role: "user", content: process.argv[3] }] };
told.message = (await anthropic.messages.create(message)).content[0].text;
told.messages = await anthropic.messages.stream(message).finalText();
const custom = [{ name: "look", input_schema: parameters }];
const used = anthropic.messages.stream({ ...message, tools: custom, tool_choice: { type: "any" } });
told.used = (await used.finalMessage()).content[0].name;
console.log(JSON.stringify(told));
"""


def test_newer_clients_for_node(url: str, tmp_path: Path) -> None:
    told = run_in_node(tmp_path, NEWER, [url, QUESTION], "openai@6.49.0", "@anthropic-ai/sdk@1.14.0")
    assert {told[name] for name in ("response", "responses", "message", "messages")} == {"A dog barks."}
    assert (told["called"], told["used"]) == ("look", "look")


def run_in_node(folder: Path, program: str, arguments: list[str], *packages: str) -> Any:
    """What `program` prints as JSON."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs Node.js and npm")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "ask.js").write_text(program)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", *packages], cwd=folder, check=True)
    ran = subprocess.run(["node", "ask.js", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)
