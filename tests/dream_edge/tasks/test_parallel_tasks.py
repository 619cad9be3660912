"""The seventeen tasks: what they ask, what counts as right, and what is given of an answer."""

from __future__ import annotations

import json
from itertools import permutations, product

import numpy as np
import pytest

import dream_edge
from dream_edge.tasks import PARALLEL, Task
from dream_edge.tasks.asking import Form, write_question
from dream_edge.tasks.grids import SYMBOLS, solves_latin
from dream_edge.tasks.sentences import is_well_formed
from dream_edge_runtime.generation.results import CanvasReader

A, B, C, D = "Anna Adams", "Ben Baker", "Clara Carter", "David Dixon"
LINE = [B, A, C]
RIGHT: dict[str, list[list[str]]] = {
    "copy": [LINE],
    "sort": [[A, B, C]],
    "reverse": [[C, A, B]],
    "shuffle": [[A, B, C], [A, C, B], [B, C, A], [C, A, B], [C, B, A]],
    "insert-index": [[B, D, A, C]],
    "insert-random": [[D, B, A, C], [B, D, A, C], [B, A, D, C], [B, A, C, D]],
    "remove-index": [[B, C]],
    "remove-random": [[A, C], [B, C], [B, A]],
    "replace-index": [[B, D, C]],
    "replace-random": [[D, A, C], [B, D, C], [B, A, D]],
}
"""Every right answer to the line B, A, C with a new D and position 2, by hand."""
PROMPT = f"Line: {json.dumps(LINE)}\nNew: {D}\nPosition: 2\nAnswer:\n"


def test_there_are_seventeen_of_three_kinds() -> None:
    kinds = [name.split("/")[0] for name in PARALLEL]
    assert [kinds.count(kind) for kind in ("line", "text", "puzzle")] == [10, 5, 2]
    assert {f"line/{name}" for name in RIGHT} == {name for name in PARALLEL if name.startswith("line/")}


@pytest.mark.parametrize("task", PARALLEL.values(), ids=PARALLEL)
def test_cases_have_an_answer_and_no_example_is_asked(task: Task) -> None:
    cases = task.generate(np.random.default_rng(task.seed), 60, held_out=True)
    assert cases[:9] == task.generate(np.random.default_rng(task.seed), 9, held_out=True)
    assert all(task.solves(case.prompt, case.answer) for case in cases)
    assert not any(task.solves(case.prompt, "") for case in cases)
    assert len({case.prompt for case in cases}) > 50
    examples = task.draw_examples(2)
    assert len(examples) == 2
    assert not {example.prompt for example in examples} & {case.prompt for case in cases}
    assert all(task.solves(example.prompt, example.answer) for example in examples)


@pytest.mark.parametrize("name", RIGHT)
def test_all_right_lists_are_right_and_no_others(name: str) -> None:
    solves = PARALLEL[f"line/{name}"].solves
    every = [list(some) for count in range(1, 6) for some in product((A, B, C, D), repeat=count)]
    assert len(every) == 4 + 16 + 64 + 256 + 1024
    found = [found for found in every if solves(PROMPT, json.dumps(found))]
    assert sorted(found) == sorted(RIGHT[name])


def test_lines_have_three_to_six_people_in_turn() -> None:
    cases = PARALLEL["line/copy"].generate(np.random.default_rng(1), 8, held_out=True)
    assert [len(json.loads(case.answer)) for case in cases] == [3, 4, 5, 6, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (f"{json.dumps(LINE)}\n\nLine: [", True),
        (f"Here it is: [{B}, {A},  {C}].", True),
        (f"{B}, {A}, {C}", False),
        (f'["{B}", "{A}", "{C}"', False),
        (f'["{B}", "{A}", "{C}", ""]', False),
        (f"[] {json.dumps(LINE)}", False),
        ('["Ben Adams", "Anna Baker", "Clara Carter"]', False),
    ],
)
def test_a_list_is_read_with_some_patience(text: str, right: bool) -> None:
    assert PARALLEL["line/copy"].solves(PROMPT, text) is right


def test_there_are_576_latin_squares() -> None:
    prompt = "Symbols: A, 7, K, Q\nAnswer:\n"
    rows = list(permutations("A7KQ"))
    found = sum(
        solves_latin(prompt, "\n".join(",".join(row) for row in (rows[0], *others)))
        for others in product(rows, repeat=3)
    )
    assert found * len(rows) == 576
    square = "A,7,K,Q\n7,A,Q,K\nK,Q,A,7\nQ,K,7,A"
    assert solves_latin(prompt, f"{square.replace(',', ', ')}\n\nSymbols: A")
    for wrong in (square[:-2], square.replace("Q", "2"), square.replace(",", ""), "A,7,K,K\n" + square):
        assert not solves_latin(prompt, wrong)


def test_latin_squares_are_drawn_without_preference() -> None:
    cases = PARALLEL["puzzle/latin"].generate(np.random.default_rng(0), 400, held_out=True)
    assert {cell for case in cases for cell in case.answer} == {*SYMBOLS, ",", "\n"}


def test_sudokus_have_four_blanks() -> None:
    cases = PARALLEL["puzzle/sudoku"].generate(np.random.default_rng(0), 20, held_out=True)
    assert {case.prompt.count("0") for case in cases} == {4}


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("The dog chased an old ball across the park.", True),
        ("An honest woman at a university had had one hour.", True),
        ("Is that the way (and not another) to the station?", True),
        ("The dog chased the the ball.", False),
        ("The dog chased a ball ball.", False),
        ("The dog chased an ball.", False),
        ("The dog ate a apple.", False),
        ("The dog chased the of park.", False),
        ("The dog chased the.", False),
        ("the dog chased the ball.", False),
        ("The dog chased the ball", False),
        ("The dog chased , the ball.", False),
        ("The dog chased  the ball.", False),
        ("The dog chased the ball,,.", False),
        ("The dog chased (the ball.", False),
        ("The dog chsd the ball.", False),
        ("The dog ran. The cat sat down.", False),
        ("Dogs run.", False),
        ("", False),
    ],
)
def test_what_goes_together_in_a_sentence(text: str, good: bool) -> None:
    assert is_well_formed(text) is good


def test_two_sentences_where_two_may_be() -> None:
    assert is_well_formed("The dog ran away. The cat sat down.", most_sentences=2)
    assert not is_well_formed("The dog ran away. The the cat sat down.", most_sentences=2)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The dogs threw a ball at my bench in the park.", True),
        ("The dog sat on a bench in the park.\nAnd more", True),
        ("The dog sat on a bench.", False),
        ("The dog dog sat on a bench in the park with a ball.", False),
    ],
)
def test_words_may_have_endings_but_must_all_occur(text: str, right: bool) -> None:
    prompt = "Words: dog, park, bench\nAnswer:\n"
    assert PARALLEL["text/words-easy"].solves(prompt, text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("On Friday Maria got 3 apples from the market.", True),
        ("At the market, three apples were bought by Maria on Friday.", True),
        ("Maria bought three apples at the market on Friday.", False),
        ("So Maria bought three apples at the market on Friday.", False),
        ("On Friday Maria got four apples from the market.", False),
        ("On Monday Maria got three apples from the market.", False),
        ("On Friday three apples were bought at the market.", False),
        ("On Friday Maria got the the three apples from the market.", False),
        (f"On Friday Maria got three apples from the market, {'and then another one, ' * 5}too.", False),
    ],
)
def test_a_paraphrase_keeps_the_facts_and_not_the_words(text: str, right: bool) -> None:
    prompt = "Sentence: Maria bought three apples at the market on Friday.\nAnswer:\n"
    assert PARALLEL["text/paraphrase"].solves(prompt, text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Leo and Nora want to play tennis on Sunday.", True),
        ("Leo and Nora play tennis. They meet on Sunday.", True),
        ("Leo and Nora want to play tennis on Monday.", False),
        ("Leo wants to play tennis on Sunday.", False),
        ("Leo and Nora meet on Sunday.", False),
        ("Leo and and Nora play tennis on Sunday.", False),
        ("Leo and Nora play tennis on Sunday. That is good. They said so.", False),
        (f"Leo and Nora play tennis on Sunday, {'as they have said to each other, ' * 6}at last.", False),
    ],
)
def test_a_summary_says_who_does_what_on_the_day_agreed(text: str, right: bool) -> None:
    prompt = (
        "Conversation:\nLeo: Shall we play tennis on Monday?\nNora: I would love to, but I have to work on Monday and "
        "I come home late.\nLeo: What a pity. Then what about Sunday?\nNora: Sunday is fine with me. I have not held a "
        "racket for weeks.\nLeo: See you on Sunday then!\nAnswer:\n"
    )
    assert PARALLEL["text/summary"].solves(prompt, text) is right


@pytest.mark.parametrize("task", PARALLEL.values(), ids=PARALLEL)
def test_a_form_leaves_out_what_is_to_be_found(task: Task) -> None:
    tokenizer = dream_edge.load("tiny", threads=1).tokenizer
    case = task.generate(np.random.default_rng(task.seed), 1, held_out=True)[0]
    form = Form.of(tokenizer, task, case)
    if task.find_holes is None:
        assert task.name.startswith("text/")
        assert form is None
        return
    assert form is not None
    found = [case.answer[hole] for hole in task.find_holes(case)]
    given = "░".join("".join(part.pieces) for part in form.parts if not isinstance(part, int))
    if task.name == "puzzle/sudoku":
        assert len(found) == case.prompt.count("0") == 4
        assert all(cell in "1234" for cell in found)
        rest = "".join(filter(str.isdigit, given))
        assert rest == "".join(clue for clue in case.prompt.split("\n", 1)[1] if clue in "1234")
    else:
        people = json.loads(case.answer) if task.name.startswith("line/") else list(case.answer.replace("\n", ",")[::2])
        assert found == people
        assert not any(person in given for person in people)
    sizes = [part for part in form.parts if isinstance(part, int)]
    assert sizes == [len(tokenizer.encode(text)) for text in found]
    ids = [id_ for part in _filled(form, found, tokenizer.encode) for id_ in part]
    canvas = np.array(ids)
    assert CanvasReader(tokenizer, 0).text(canvas, np.zeros(len(canvas), bool)) == case.answer


def _filled(form: Form, texts: list[str], encode: object) -> list[list[int]]:
    left = list(texts)
    return [encode(left.pop(0)) if isinstance(part, int) else list(part.ids) for part in form.parts]  # type: ignore[operator]


def test_a_conversation_shows_examples_as_earlier_turns() -> None:
    tokenizer = dream_edge.load("tiny", threads=1).tokenizer
    task = PARALLEL["line/copy"]
    (case,) = task.generate(np.random.default_rng(task.seed), 1, held_out=True)
    examples = task.draw_examples(1)
    text = tokenizer.decode(write_question(tokenizer, task, case, examples, chat=True), skip_special=False)
    turns = [turn.split("<|im_end|>")[0] for turn in text.split("<|im_start|>")[1:]]
    assert [turn.split("\n")[0] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
    for turn, asked in ((turns[1], examples[0]), (turns[3], case)):
        assert turn == f"user\n{task.instruction}\n\n{asked.prompt.rstrip()}"
    assert turns[2] == f"assistant\n{examples[0].answer}"
    plain = write_question(tokenizer, task, case, examples)
    assert tokenizer.decode(plain) == task.write_prompt(case, examples)
