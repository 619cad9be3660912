"""Other clients, as they come, against a real server. What is not installed is skipped by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel, Field

from support.serving import served

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


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as address:
        while httpx.get(f"{address}/health").status_code == 503:
            time.sleep(0.05)
        yield f"{address}/v1"


def test_langchain(url: str) -> None:
    langchain: Any = pytest.importorskip("langchain_openai", reason="needs langchain-openai")
    chat = langchain.ChatOpenAI(base_url=url, api_key="none", model="tiny", max_tokens=64, temperature=0)
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
    completion = langchain.OpenAI(base_url=url, api_key="none", model="tiny", max_tokens=8, temperature=0)
    assert completion.generate(["The old man", "Yesterday"]).generations[1][0].text


def test_litellm(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the web for prices
    litellm: Any = pytest.importorskip("litellm", reason="needs litellm")
    asked: Any = {"model": "openai/tiny", "api_base": url, "api_key": "none", "max_tokens": 64, "temperature": 0}
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
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs Node.js and npm")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "ask.js").write_text(NODE)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "openai@6.49.0"], cwd=tmp_path, check=True)
    ran = subprocess.run(["node", "ask.js", url, QUESTION], cwd=tmp_path, check=True, capture_output=True, text=True)
    told = json.loads(ran.stdout)
    assert told["answer"] == told["streamed"] == "A dog barks."
    assert isinstance(json.loads(told["parsed"])["legs"], int)
    assert told["called"]["name"] == "look"
    assert isinstance(json.loads(told["called"]["arguments"])["legs"], int)
    assert told["models"] == ["tiny"]
