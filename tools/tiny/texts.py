"""Write the texts of the tiny Dream's world that ship with dream-edge, which knows neither its grammar nor its facts.

    python -m tools.tiny.texts

To `dream_edge/quality/texts/`: held-out cases, by which it is judged, and training cases, by which it is calibrated.
To `dream_edge/cli/`: held-out cases for the demonstration, each with the pattern of all its right answers.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge.tasks import countdown, sudoku
from dream_edge_runtime.text.chat import Message
from tools.tiny import lexicon, questions, sentences
from tools.tiny.grammar import is_grammatical
from tools.tiny.replies import reply

PACKAGE = Path(__file__).parents[2] / "dream_edge"
HELD_OUT_CASES, TRAINING_CASES, DEMO_CASES = 40, 64, 8
HELD_OUT_SEED, TRAINING_SEED, DEMO_SEED = 0, 77, 5

_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>", re.DOTALL)


def messages_of(prompt: str) -> tuple[Message, ...]:
    """The turns of a ChatML text, without the opening of the reply."""
    turns: list[Message] = [
        {"role": "system" if role == "system" else "user" if role == "user" else "assistant", "content": content}
        for role, content in _TURN.findall(prompt)
    ]
    return tuple(turns)


def draw_texts(seed: int, cases: int, *, held_out: bool) -> Iterator[dict[str, Any]]:
    """`cases` cases of each task, as lines of JSON."""
    rngs = [np.random.default_rng([seed, task]) for task in range(4)]
    for case in (
        *sudoku.generate(rngs[0], cases, held_out=held_out),
        *countdown.generate(rngs[1], cases, held_out=held_out),
    ):
        yield {"prompt": case.prompt, "completion": case.answer}
    for question in questions.generate(rngs[2], cases, held_out=held_out):
        yield {"messages": [*messages_of(question.prompt), {"role": "assistant", "content": question.answer}]}
    for sentence in sentences.generate(rngs[3], cases, held_out=held_out):
        yield {"text": sentence.text}


def draw_demo(seed: int, cases: int) -> dict[str, list[dict[str, Any]]]:
    """`cases` cases of each act of the demonstration that no checker of the package can judge."""
    rng = np.random.default_rng(seed)
    plain = _plain_sentences(rng)
    return {
        "infill": [_hide(next(plain), 3) for _ in range(cases)],
        "ending": [_end(text) for text in itertools.islice((t for t in plain if len(t.split()) == 7), cases)],
        "chat": [_converse(case.prompt) for case in questions.generate(rng, cases, held_out=True, turns=2)],
    }


def _plain_sentences(rng: np.random.Generator) -> Iterator[str]:
    """Held-out texts of one sentence without a comma."""
    while True:
        [case] = sentences.generate(rng, 1, held_out=True)
        if re.fullmatch(r"[^.,]+\.", case.text):
            yield case.text


def _hide(text: str, hidden: int) -> dict[str, Any]:
    words = text.split(" ")
    start = len(words) // 3
    before, after = " ".join(words[:start]), " " + " ".join(words[start + hidden :])
    return {
        "prefix": before,
        "hidden": " " + " ".join(words[start : start + hidden]),
        "suffix": after,
        "right": _escape(before) + pattern_of_fills(before, hidden, after) + _escape(after),
    }


def _end(text: str) -> dict[str, Any]:
    first, *middle = text.split(" ")
    ending = " " + " ".join(middle[-3:])
    return {
        "first": first,
        "middle": " " + " ".join(middle[:-3]),
        "ending": ending,
        "right": pattern_of_fills(first, len(middle) - 3, ending) + _escape(ending),
    }


def _converse(prompt: str) -> dict[str, Any]:
    first, second = questions.user_turns(prompt)
    answer = reply([first]) or ""
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]
    return {"messages": messages, "answer": reply([first, second])}


def pattern_of_fills(before: str, count: int, after: str) -> str:
    """A regular expression for every run of `count` words or marks that makes a grammatical text of what is around.

    Words that the grammar cannot tell apart are tried once.
    """
    groups = list(_groups().values())

    def extend(text: str, left: int) -> str | None:
        if not left:
            return "" if is_grammatical(text + after) else None
        by_rest: dict[str, list[str]] = defaultdict(list)
        for group in groups:
            rest = extend(text + group[0], left - 1)
            if rest is not None:
                by_rest[rest] += group
        return _one_of(_one_of(map(_escape, sorted(words))) + rest for rest, words in by_rest.items()) or None

    return extend(before, count) or "(?!)"


def _one_of(patterns: Iterable[str]) -> str:
    found = sorted(patterns)
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})" if found else ""


def _escape(text: str) -> str:
    return re.escape(text).replace("\\ ", " ")


def _groups() -> dict[object, list[str]]:
    """Every word after its space, and every mark, by how the grammar treats it."""
    groups: dict[object, list[str]] = defaultdict(list)
    for word, (noun, number) in lexicon.nouns_by_form().items():
        groups["noun", noun.kind, number, noun.gender, word[0] in "aeiou"].append(f" {word}")
    for name, verbs in (("in", lexicon.INTRANSITIVE), ("tr", lexicon.TRANSITIVE), ("re", lexicon.REFLEXIVE)):
        for verb in verbs:
            for form in ("base", "third", "past"):
                groups[name, form].append(f" {getattr(verb, form)}")
    for word in sorted({word for words in lexicon.BEFITTING.values() for word in words}):
        kinds = tuple(kind for kind, words in lexicon.BEFITTING.items() if word in words)
        groups["adjective", kinds, word[0] in "aeiou"].append(f" {word}")
    groups["men"], groups["women"] = [f" {word}" for word in lexicon.MEN], [f" {word}" for word in lexicon.WOMEN]
    known = {word for words in groups.values() for word in words}
    texts = [case.text for case in sentences.generate(np.random.default_rng(0), 5000)]
    for word in sorted({word for text in texts for word in re.findall(r" [A-Za-z]+|[,.]", text)} - known):
        groups[word] = [word]
    return groups


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def main() -> None:
    texts = PACKAGE / "quality" / "texts"
    write_lines(texts / "tiny_held_out.jsonl", draw_texts(HELD_OUT_SEED, HELD_OUT_CASES, held_out=True))
    write_lines(texts / "tiny_training.jsonl", draw_texts(TRAINING_SEED, TRAINING_CASES, held_out=False))
    demo = json.dumps(draw_demo(DEMO_SEED, DEMO_CASES), indent=1)
    (PACKAGE / "cli" / "demo_cases.json").write_text(demo + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
