"""What it costs to hold a text to a schema, and what is answered then.

    python benchmarks/structured.py cost [--tokens 256]
    python benchmarks/structured.py answers ARTIFACT [--cases 1000]

`cost`: processor time a step for a schema of 20 fields, and for one of long strings, on the tiny Dream and on rows of
noise with the vocabulary of Qwen2 (needs dashscope), and how long the schemas take to read. The network is not counted.

`answers`: questions answered in free text, held to a sentence, and as JSON by a schema, and how many passes it saves to
settle what is certain. ARTIFACT should have learnt to answer in JSON:

    python -m tools.tiny.train build/records --work build/work --network records --from dream_edge/tiny --steps 650
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

import dream_edge
from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.schema import read_schema
from dream_edge_runtime.constraint.token_automaton import TokenAutomaton
from dream_edge_runtime.constraint.vocabulary import Vocabulary
from dream_edge_runtime.generation.canvas import Canvas
from dream_edge_runtime.generation.constraint import LOOKED_AT, ConstrainedHole, Constraint, FittingRows
from dream_edge_runtime.generation.sampling import Judged
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.text.tokenizer import Tokenizer
from tools.synthetic.vocabulary import ranks
from tools.tiny import questions
from tools.tiny.texts import messages_of

KINDS = ("string", "integer", "boolean", "number")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {f"field_{at}": {"type": KINDS[at % len(KINDS)]} for at in range(20)},
    "required": [f"field_{at}" for at in range(20)],
    "additionalProperties": False,
}
LONG: dict[str, Any] = {
    "type": "object",
    "properties": {f"field_{at}": {"type": "string", "maxLength": 1000} for at in range(5)},
    "required": [f"field_{at}" for at in range(5)],
    "additionalProperties": False,
}
SCHEMAS = {"20 fields": SCHEMA, "5 strings of up to 1,000 characters": LONG}
SENTENCE = "[A-Z0-9][A-Za-z0-9 ,'-]*[.!?]"


@contextmanager
def timed(name: str, spent: dict[str, float], owner: type, method: str) -> Iterator[None]:
    """Add the processor time of each call of a `method` of `owner` to `spent`."""
    original: Callable[..., Any] = getattr(owner, method)

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.thread_time()
        try:
            return original(*arguments, **options)
        finally:
            spent[name] = spent.get(name, 0.0) + time.thread_time() - start

    setattr(owner, method, call)
    try:
        yield
    finally:
        setattr(owner, method, original)


def measure_tiny(tokens: int) -> None:
    model = dream_edge.load("tiny", threads=1)
    for preset, name in itertools.product(("fast", "exact"), SCHEMAS):
        options: dict[str, Any] = {"preset": preset, "max_new_tokens": tokens, "json_schema": SCHEMAS[name]}
        model.generate("Hello!", **options)  # reads the schema
        spent: dict[str, float] = {}
        with (
            timed("settle", spent, Constraint, "settle"),
            timed("draw", spent, FittingRows, "redraw"),
            timed("together", spent, Constraint, "keep_fitting"),
        ):
            result = model.generate("Hello!", **options)
        total = sum(spent.values())
        print(
            f"tiny, {preset}, {name}, {tokens} tokens: {1e3 * total / result.steps:.2f} ms a step "
            f"({result.steps} steps, {result.passes} passes)",
            flush=True,
        )


def measure_qwen(tokens: int, rounds: int = 5) -> None:
    """A canvas of masks after the first key; the logits favour what the schema wants, as a network's do, with noise."""
    start = time.process_time()
    vocabulary = Vocabulary({token: text for text, token in ranks().items()})
    print(f"Qwen2's vocabulary: {time.process_time() - start:.2f} s for its tokens, once")
    for name, schema in SCHEMAS.items():
        measure_schema(vocabulary, name, schema, tokens, rounds)


def measure_schema(vocabulary: Vocabulary, name: str, schema: dict[str, Any], tokens: int, rounds: int) -> None:
    start = time.process_time()
    automaton = TokenAutomaton(Automaton.of(read_schema(schema)), vocabulary)
    print(
        f"{name}: read in {time.process_time() - start:.2f} s; {automaton.states:,} states; "
        f"at least {automaton.shortest} tokens"
    )
    end = vocabulary.size
    hole = ConstrainedHole(automaton, frozenset({end}), start=0)
    rng = np.random.default_rng(0)
    tokenizer: Tokenizer = dream_edge.load("tiny").tokenizer  # spells nothing here
    steps: list[float] = []
    for _ in range(rounds):
        ids, masked = np.zeros(tokens, np.int64), np.ones(tokens, bool)
        logits: FloatArray = rng.normal(size=(LOOKED_AT, 152_064)).astype(np.float32)
        rows = Rows.from_logits(logits, 0.0)
        begin = time.thread_time()
        hole._room = -1
        hole.read(ids, masked)
        constraint = Constraint([hole], tokenizer)
        fitting = FittingRows(rows, constraint, np.arange(LOOKED_AT), Judged(draw_temperature=0.0), rng)
        fitting.redraw(Judged(draw_temperature=0.0).propose(rows, rng), np.arange(LOOKED_AT))
        steps.append(time.thread_time() - begin)
    print(
        f"{name}, {tokens} places, {LOOKED_AT} rows of noise, none of which fits: "
        f"{1e3 * steps[0]:.0f} ms the first step, {1e3 * float(np.median(steps[1:])):.0f} ms a later one"
    )


def answer_questions(artifact: str, cases: int) -> None:
    model = dream_edge.load(artifact, threads=1)
    asked = questions.generate(np.random.default_rng(3), cases, held_out=True)
    by_schema: dict[str, Any] = {"json_schema": questions.RECORD}
    ways: list[tuple[str, bool, dict[str, Any], AbstractContextManager[None]]] = [
        ("free text", False, {}, nullcontext()),
        ("a sentence by regex", False, {"regex": SENTENCE}, nullcontext()),
        ("asked for JSON, free", True, {}, nullcontext()),
        ("JSON by schema", True, by_schema, nullcontext()),
        ("JSON by schema, nothing settled", True, by_schema, settling_nothing()),
    ]
    for name, record, options, settling in ways:
        right, passes = 0, 0
        with settling:
            for case in asked:
                prompt = questions.as_record(case).prompt if record else case.prompt
                result = model.chat(messages_of(prompt), max_new_tokens=64, **options)
                right += questions.solves(case.prompt, _answer(result.text) if record else result.text)
                passes += result.passes
        print(f"{name}: {right / cases:.1%} right, {passes / cases:.2f} passes", flush=True)


def _answer(text: str) -> str:
    try:
        return str(json.loads(text)["answer"])
    except (ValueError, KeyError, TypeError):
        return ""


@contextmanager
def settling_nothing() -> Iterator[None]:
    """Leave to the network what is certain."""
    original = Constraint.settle

    def settle(constraint: Constraint, canvas: Canvas, row: int) -> IntArray:
        constraint.read(canvas, row)
        return np.empty(0, np.int64)

    Constraint.settle = settle  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Constraint.settle = original  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    cost = verbs.add_parser("cost")
    cost.add_argument("--tokens", type=int, default=256)
    answers = verbs.add_parser("answers")
    answers.add_argument("artifact")
    answers.add_argument("--cases", type=int, default=1000)
    options = parser.parse_args()
    if options.verb == "cost":
        measure_tiny(options.tokens)
        measure_qwen(options.tokens)
    else:
        answer_questions(options.artifact, options.cases)


if __name__ == "__main__":
    main()
