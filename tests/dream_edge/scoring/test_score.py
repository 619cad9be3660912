"""What revealing several tokens at once breaks: on a network that knows every right answer, and end to end."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import pytest

import dream_edge
from dream_edge.scoring import answers as answering
from dream_edge.scoring.answers import Kept, Question, UnreadableAnswers, write_questions
from dream_edge.scoring.score import Plan, TaskScore, make_plan, score_model
from dream_edge.scoring.settings import Setting
from dream_edge.tasks import PARALLEL, Task
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.options import DEFAULT_PRESET, PRESETS
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import Progress
from support.answering import answering_network

ROOM = 110  # the tiny vocabulary spells names in many tokens


def all_answers(task: Task, prompt: str, one: str) -> Iterator[str]:
    """Every right answer where there are several: by trying, since the task itself only checks."""
    if task.name == "puzzle/latin":
        symbols = re.findall(r"\w", prompt.split("Symbols:")[1].split("\n")[0])
        rows = [",".join(row) for row in permutations(symbols)]
        for first in rows:
            second = [row for row in rows if _differ(row, first)]
            third = [(a, b) for a in second for b in second if _differ(a, b)]
            yield from (f"{first}\n{a}\n{b}\n{c}" for a, b in third for c in second if _differ(c, a) and _differ(c, b))
    elif task.name.startswith("line/") and task.name.split("/")[1] not in ("copy", "sort", "reverse"):
        people = json.loads(prompt.split("Line: ")[1].split("\n")[0])
        new = re.findall(r"New: (.*)", prompt)
        lists = [list(some) for size in (-1, 0, 1) for some in permutations(people + new, max(1, len(people) + size))]
        yield from (text for text in map(json.dumps, lists) if task.solves(prompt, text))
    else:
        yield one


def _differ(row: str, other: str) -> bool:
    return all(a != b for a, b in zip(row, other, strict=True) if a != ",")


def know(model: DreamModel, questions: list[Question], task: Task) -> DreamModel:
    """`model` with a network that knows all right answers to these questions."""
    known = {}
    for question in questions:
        texts = list(all_answers(task, question.case.prompt, question.case.answer))
        assert question.case.answer in texts
        known[question.prompt] = [ids for text in texts if (ids := _spell(model, question, text))]
    return replace(model, network=answering_network(model.config, known))


def _spell(model: DreamModel, question: Question, text: str) -> list[int]:
    """Ids of an answer, in its form if that is given; nothing where it does not fit into the holes."""
    if question.form is None:
        return model.tokenizer.encode(text)
    ids: list[int] = []
    pieces = [
        r"([\w ]+?)" if isinstance(part, int) else re.escape("".join(part.pieces)) for part in question.form.parts
    ]
    match = re.fullmatch("".join(pieces), text)
    found = list(match.groups()) if match else []
    for part in question.form.parts:
        piece = list(part.ids) if not isinstance(part, int) else model.tokenizer.encode(found.pop(0)) if found else []
        if isinstance(part, int) and len(piece) != part:
            return []
        ids += piece
    return ids


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


def scores(model: DreamModel, task: Task, settings: list[str], *, holes: bool = False) -> dict[str, TaskScore]:
    """Of a network that knows the answers, asked in conversations."""
    plan = Plan((replace(task, new_tokens=ROOM),), 3, tuple(map(Setting.parse, ["1", *settings])), shots=1, holes=holes)
    knowing = know(model, write_questions(model, plan.tasks[0], 3, 1, chat=True, holes=holes), task)
    found = score_model(knowing, "knowing", "", plan, Kept())
    assert {row.task for row in found.rows} == {task.name}
    return {row.setting: row for row in found.rows}


def with_form(holes: bool) -> list[str]:
    return [name for name, task in PARALLEL.items() if not holes or task.find_holes]


@pytest.mark.parametrize(("name", "holes"), [(name, holes) for holes in (False, True) for name in with_form(holes)])
def test_a_network_that_knows_the_answers_solves_every_task_at_one_token_a_step(
    name: str, holes: bool, model: DreamModel
) -> None:
    """What has one answer is solved at any number of tokens a step as well."""
    task = PARALLEL[name]
    settings = [] if "random" in name or name in ("line/shuffle", "puzzle/latin") else ["4", "0.9"]
    found = scores(model, task, settings, holes=holes)
    for row in found.values():
        assert (row.solved, row.difference, row.lost, row.gained, row.p_value) == (1, 0, 0, 0, 1)
    if settings:
        assert found["4"].passes == pytest.approx(found["1"].passes / 4, abs=1)
        assert 1 <= found["0.9"].passes <= 2  # of two neighbours that are the same token, one waits
    if holes:
        assert found["1"].tokens_per_pass == 1


@pytest.mark.parametrize(
    ("name", "holes", "lost"),
    [
        ("line/shuffle", False, 3),
        ("line/shuffle", True, 2),  # into the holes of one case fits one order alone
        ("puzzle/latin", False, 3),
        ("puzzle/latin", True, 3),
    ],
)
def test_tokens_revealed_together_contradict_each_other_where_several_answers_are_right(
    name: str, holes: bool, lost: int, model: DreamModel
) -> None:
    """All that is uncertain is revealed at once, each token the likeliest by itself: equal tokens where none may be."""
    found = scores(model, PARALLEL[name], [str(ROOM), "0.99"], holes=holes)
    assert found["1"].solved == 1
    everything = found[str(ROOM)]
    assert (everything.passes, everything.lost, everything.gained) == (1, lost, 0)
    assert everything.difference == everything.solved - 1 == pytest.approx(-lost / 3)
    assert everything.p_value == 2 * 0.5**lost
    assert found["0.99"].solved == 1  # what is certain comes at once, and the rest one by one
    assert found["0.99"].passes < found["1"].passes


def test_what_comes_after_an_answer_in_plain_text_does_not_count(model: DreamModel) -> None:
    task = replace(PARALLEL["line/copy"], new_tokens=ROOM)
    plan = Plan((task,), 2, (Setting.parse("1"),), shots=1, holes=False)
    questions = write_questions(model, task, 2, 1, chat=False, holes=False)
    encode = model.tokenizer.encode
    texts = {each.prompt: [encode(f"{each.case.answer}\n\n{each.case.prompt}")[:ROOM]] for each in questions}
    knowing = replace(model, network=answering_network(model.config, texts))
    (row,) = score_model(knowing, "knowing", "", plan, Kept(), raw=True).rows
    assert row.solved == 1
    kept = sum(len(encode(each.case.answer)) for each in questions)
    assert row.tokens_per_pass == pytest.approx(kept / (2 * row.passes), rel=0.05)


def test_random_order_is_replaced_where_no_preset_is_named(model: DreamModel) -> None:
    for algorithm, order in (("origin", "entropy"), ("maskgit_plus", "maskgit_plus")):
        asked = replace(model, defaults=model.defaults.replace(algorithm=algorithm, temperature=0.5))
        for name in ("2", "0.9", "factor:0.5"):
            config = Setting.parse(name).settle(asked)
            assert (config.algorithm, config.temperature, config.cache) == (order, 0, "none")
        exact = Setting.parse("exact").settle(asked)
        assert (exact.algorithm, exact.temperature, exact.reveal) == (algorithm, 0, None)


# --- of a model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "tiny-blocks"])
@pytest.mark.parametrize("holes", [False, True])
def test_the_tiny_models_solve_the_sudokus_they_have_learnt(name: str, holes: bool) -> None:
    found = dream_edge.score(
        name,
        tasks=["puzzle/sudoku"],
        cases=4,
        settings=["exact", DEFAULT_PRESET, "2"],
        shots=0,
        raw=True,
        holes=holes,
        threads=1,
    )
    assert (found.artifact, found.chat, found.holes) == (name, False, holes)
    assert [row.setting for row in found.rows] == ["1", "exact", DEFAULT_PRESET, "2"]
    assert found.rows[0].solved == 1
    assert found.rows[0].passes == (4 if holes else 24)
    assert found.rows[-1].passes < found.rows[0].passes


def test_what_tiny_loses_is_counted_in_pairs() -> None:
    found = dream_edge.score("tiny", tasks=["sudoku"], cases=24, settings=["12"], shots=0, raw=True, threads=1)
    one, twelve = found.rows
    assert one.solved == 1
    assert twelve.lost == round(24 * (1 - twelve.solved)) > 0
    assert twelve.difference == pytest.approx(twelve.solved - 1)
    assert twelve.solved_interval[0] < twelve.solved < twelve.solved_interval[1]
    assert twelve.p_value == pytest.approx(2 * 0.5**twelve.lost)


def test_kinds_and_all_of_them_are_summed_up(random_artifact: Path) -> None:
    found = dream_edge.score(
        random_artifact, tasks=["puzzle", "line/copy"], cases=2, settings=["8"], raw=True, shots=0, threads=1
    )
    assert [(row.task, row.setting, row.cases) for row in found.rows] == [
        (name, setting, cases)
        for name, cases in [("puzzle/latin", 2), ("puzzle/sudoku", 2), ("line/copy", 2), ("puzzle", 4), ("all", 6)]
        for setting in ("1", "8")
    ]
    assert not any(row.solved for row in found.rows)
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["p_value"] == 1


def test_all_are_asked_by_default_and_those_with_a_form_where_it_is_given() -> None:
    assert [task.name for task in make_plan([], 1, ["2"], None, False).tasks] == list(PARALLEL)
    assert [task.name for task in make_plan([], 1, ["2"], None, True).tasks] == with_form(True)
    assert [each.name for each in make_plan([], 1, ["2", "1", "2"], None, False).settings] == ["1", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["line/juggle"]}, "tasks='line/juggle': tasks must be of line, text, puzzle, line/copy"),
        ({"cases": 0}, "cases"),
        ({"shots": -1}, "shots"),
        ({"settings": ["0"]}, "must be tokens a step"),
        ({"settings": ["1.5"]}, "a threshold"),
        ({"settings": ["quick"]}, f"or one of {', '.join(PRESETS)}"),
        ({"settings": ["factor:x"]}, "a strategy"),
        ({"tasks": ["text"], "holes": True}, "text/paraphrase, whose answers have no form"),
    ],
)
def test_bad_values_are_refused_before_the_model_is_looked_for(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        dream_edge.score("nowhere", **options)  # type: ignore[arg-type]


def test_a_setting_that_does_not_go_with_the_model_is_refused_before_the_first_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PRESETS, "aligned", replace(PRESETS[DEFAULT_PRESET], settings={"align": "answer"}))
    seen: list[Progress] = []
    with pytest.raises(InvalidOption, match="align"):
        dream_edge.score("tiny", settings=["2", "aligned"], threads=1, progress=seen.append)
    assert not [each for each in seen if each.unit == "texts"]


# --- kept answers ----------------------------------------------------------------------------------------------------


def run(artifact: Path, keep: Path, *, cases: int = 2, **options: object) -> tuple[dream_edge.Score, list[int]]:
    """The score, and how many texts were asked at once."""
    asked: list[int] = []
    original = answering._ask

    def ask(*args: object) -> object:
        asked.append(len(args[-1]))  # type: ignore[arg-type]
        return original(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "_ask", ask)
        given = {"tasks": ["puzzle"], "settings": ["8"], "raw": True, "shots": 0, **options}
        return dream_edge.score(artifact, cases=cases, keep=keep, threads=1, **given), asked  # type: ignore[arg-type]


def test_kept_answers_are_not_asked_for_again(random_artifact: Path, tmp_path: Path) -> None:
    keep = tmp_path / "answers.jsonl"
    first, asked = run(random_artifact, keep)
    assert sum(asked) == 2 * 2 * 2
    assert len(keep.read_text("utf-8").splitlines()) == 8
    assert run(random_artifact, keep) == (first, [])
    more, asked = run(random_artifact, keep, cases=3)
    assert sum(asked) == 2 * 2
    assert more == run(random_artifact, tmp_path / "others.jsonl", cases=3)[0]
    for changed in ({"shots": 1}, {"holes": True}, {"settings": ["4"]}, {"raw": False}):
        assert sum(run(random_artifact, keep, **changed)[1]) >= 4


def test_a_killed_score_goes_on_where_it_was(random_artifact: Path, tmp_path: Path) -> None:
    keep = tmp_path / "answers.jsonl"
    whole, _ = run(random_artifact, keep)
    lines = keep.read_bytes().splitlines(keepends=True)
    keep.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    again, asked = run(random_artifact, keep)
    assert again == whole
    assert sum(asked) == 3
    assert sorted(keep.read_bytes().splitlines(keepends=True)) == sorted(lines)


@pytest.mark.parametrize("line", ["{}", "text", '{"key": "a", "text": "b", "passes": "many", "tokens": 1}'])
def test_a_file_of_something_else_is_left_as_it_is(line: str, random_artifact: Path, tmp_path: Path) -> None:
    keep = tmp_path / "notes.txt"
    keep.write_text(f"{line}\nunfinished", "utf-8")
    with pytest.raises(UnreadableAnswers, match=r"notes.txt: line 1 is no answer .* another file"):
        run(random_artifact, keep)
    assert keep.read_text("utf-8") == f"{line}\nunfinished"


def test_texts_are_reported_and_how_long_they_may_take(
    random_artifact: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dream_edge")
    clock = iter(range(0, 10**6, 30))
    monkeypatch.setattr(answering, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    seen: list[Progress] = []
    options = {"tasks": ["puzzle"], "cases": 2, "settings": ["2"], "raw": True, "shots": 0, "threads": 1}
    dream_edge.score(random_artifact, **options, progress=seen.append)  # type: ignore[arg-type]
    texts = [each for each in seen if each.unit == "texts"]
    assert [each.done for each in texts] == list(range(9))  # one at a time, where each takes 30 seconds
    assert {each.total for each in texts} == {8}
    # a text of 40 tokens took 30 s; of each setting there are 2 of 40 and 2 of 24, and half the steps at 2 a step
    assert f"8 texts may take {30 / 40 * 128 * 1.5 / 60:.0f} min" in caplog.text
