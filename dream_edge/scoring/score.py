"""`dream_edge.score`: which tasks an artifact solves at one token a step, and which of them it loses at more."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.generation.option import Integer
from dream_edge_runtime.progress import Meter, OnProgress, silent
from dream_edge_runtime.text.chat import TURN_START
from dream_edge_runtime.units import counted, duration

from ..models import load, resolve_artifact
from ..quality.measure.estimates import mcnemar, wilson
from ..tasks import PARALLEL, TASKS
from ..tasks.scoring import Scores
from ..tasks.task import Task
from .answers import Kept, find_answers, open_kept, write_questions
from .settings import ONE, USUAL, Setting, parse_settings

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

CASES = 4
"""Of each task: one of each length of a waiting line."""
_LONG_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task, or several together, at one setting. Shares between 0 and 1.

    solved: share of the cases, and its 95 % confidence interval (Wilson).
    passes: of the network, for a text.
    tokens_per_pass: tokens that the texts keep, ends of text not counted, for each pass.
    difference: solved - solved at one token a step, of the same cases.
    lost, gained: cases that only one token a step solved, and only this setting.
    p_value: two-sided, of McNemar's exact test; how often a difference this large arises when there is none.
    """

    task: str
    setting: str
    cases: int
    solved: float
    solved_interval: tuple[float, float]
    passes: float
    tokens_per_pass: float
    difference: float
    lost: int
    gained: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """What an artifact solves, task by task and setting by setting; then by kind of task, then all together."""

    artifact: str
    chat: bool
    """Whether it was asked in conversations; otherwise in plain text."""
    holes: bool
    """Whether the form of the answers was given."""
    rows: tuple[TaskScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score(
    artifact: str | Path,
    *,
    tasks: Sequence[str] = (),
    cases: int = CASES,
    settings: Sequence[str] = USUAL,
    shots: int | None = None,
    raw: bool = False,
    holes: bool = False,
    keep: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    as_int8: bool = False,
    memory_check: bool = True,
    progress: OnProgress = silent,
) -> Score:
    """Measure what revealing several tokens at once breaks: what `dream-edge score` calls.

    Every setting is asked the same cases as one token a step. The seventeen tasks are those of ParallelBench (Kang et
    al., arXiv 2510.04767), with cases and checkers of our own.

    Args:
        artifact: as for `dream_edge.load`, and so are `device`, `threads`, `as_int8` and `memory_check`.
        tasks: names of tasks, or of their kinds "line", "text" and "puzzle"; none = all seventeen. "sudoku" and
            "countdown" are those of `dream_edge.compare`.
        cases: of each task. The first ones are the same however many there are.
        settings: each is tokens a step ("2"), a threshold ("0.9"), a strategy ("factor:0.5") or a preset's name.
        shots: solved examples before a question; None = one, and eight for "sudoku" and "countdown".
        raw: ask in plain text also a model that chats, as base models are asked anyway.
        holes: give the form of the answers, with holes for what is to be found: a list without its names, a grid
            without its cells. Tasks of kind "text" have none.
        keep: a file of answers, which grows as they come. Called again with it, only what it lacks is asked.
        progress: told of loading, and of texts.

    Raises:
        InvalidOption: an option has no such value, or contradicts another.
        UnreadableAnswers, OutputBusy, NotWritable: of the file `keep`.
        ArtifactError, ArtifactNotFound, HubError, TooLittleMemory: as for `dream_edge.load`.
    """
    plan = make_plan(tasks, cases, settings, shots, holes)
    with open_kept(None if keep is None else Path(keep)) as kept:
        manifest = (resolve_artifact(artifact, progress=progress) / MANIFEST).read_bytes()
        model = load(
            artifact, device=device, threads=threads, as_int8=as_int8, memory_check=memory_check, progress=progress
        )
        digest = hashlib.sha256(manifest + bytes([as_int8])).hexdigest()
        return score_model(model, str(artifact), digest, plan, kept, raw=raw, progress=progress)


@dataclass(frozen=True)
class Plan:
    """What is asked and how, checked."""

    tasks: tuple[Task, ...]
    cases: int
    settings: tuple[Setting, ...]
    shots: int | None
    holes: bool


def make_plan(tasks: Sequence[str], cases: int, settings: Sequence[str], shots: int | None, holes: bool) -> Plan:
    """Raises InvalidOption, as `score`."""
    for option, value, least in (("cases", cases, 1), ("shots", shots, 0)):
        if value is not None:
            Integer(least).convert(option, value)
    chosen = {task.name: task for name in tasks for task in _find_tasks(name)} or PARALLEL
    without = [name for name, task in chosen.items() if task.find_holes is None]
    if holes and tasks and without:
        raise InvalidOption("holes", holes, f"does not go with {without[0]}, whose answers have no form: leave it out")
    asked = tuple(task for task in chosen.values() if not holes or task.find_holes is not None)
    return Plan(asked, cases, parse_settings(settings), shots, holes)


def _find_tasks(name: str) -> list[Task]:
    every = {**PARALLEL, **TASKS}
    if found := [task for task in every.values() if name in (task.name, _kind(task.name))]:
        return found
    raise InvalidOption("tasks", name, f"must be of {', '.join((*dict.fromkeys(map(_kind, PARALLEL)), *every))}")


def _kind(task: str) -> str:
    return task.split("/")[0]


def score_model(
    model: DreamModel,
    name: str,
    digest: str,
    plan: Plan,
    kept: Kept,
    *,
    raw: bool = False,
    progress: OnProgress = silent,
) -> Score:
    """As `score`, of a model that is loaded and called `name`; `digest` tells it from others in the file."""
    chat = not raw and model.tokenizer.chat_format is not None and model.tokenizer.special_id(TURN_START) is not None
    for setting in plan.settings:  # before the first text
        setting.settle(model)
    found: dict[str, dict[str, Scores]] = {}
    watch = _Watch(plan, Meter(progress, f"scoring {name}", len(plan.tasks) * len(plan.settings) * plan.cases, "texts"))
    for task in plan.tasks:
        shots = task.shots if plan.shots is None else plan.shots
        questions = write_questions(model, task, plan.cases, shots, chat=chat, holes=plan.holes)
        found[task.name] = {}
        for setting in plan.settings:
            watch.begin(task, setting)
            answers = find_answers(model, digest, task, setting, questions, kept, watch.count)
            pairs = zip(questions, answers, strict=True)
            found[task.name][setting.name] = Scores(
                np.array([task.solves(question.case.prompt, answer.text) for question, answer in pairs]),
                np.array([answer.passes for answer in answers]),
                np.array([answer.tokens for answer in answers]),
            )
    return Score(artifact=name, chat=chat, holes=plan.holes, rows=_rows(found, [each.name for each in plan.settings]))


class _Watch:
    """Reports texts as they are done, and after the first says how long all of them may take."""

    def __init__(self, plan: Plan, meter: Meter) -> None:
        self._plan, self._meter, self._told = plan, meter, False

    def begin(self, task: Task, setting: Setting) -> None:
        self._steps = task.new_tokens * setting.expected_steps

    def count(self, texts: int, seconds: float) -> None:
        self._meter.advance(texts)
        if self._told or not seconds:
            return
        self._told = True
        plan = self._plan
        tokens = sum(task.new_tokens for task in plan.tasks) * plan.cases
        whole = seconds / texts / self._steps * tokens * sum(setting.expected_steps for setting in plan.settings)
        if whole > _LONG_SECONDS:
            count = counted(len(plan.tasks) * len(plan.settings) * plan.cases, "text")
            _log.info("%s may take %s, by the first of them", count, duration(whole))


def _rows(found: dict[str, dict[str, Scores]], settings: Sequence[str]) -> tuple[TaskScore, ...]:
    """Of each task, then of each kind that has several, then of all."""
    groups = {name: [name] for name in found}
    for kind in dict.fromkeys(map(_kind, found)):
        groups.setdefault(kind, [name for name in found if _kind(name) == kind])
    groups.setdefault("all", list(found))
    kept = {name: members for name, members in groups.items() if name in found or len(members) > 1}
    return tuple(
        _row(name, setting, *(_join([found[member][each] for member in members]) for each in (ONE, setting)))
        for name, members in kept.items()
        for setting in settings
    )


def _join(scores: Sequence[Scores]) -> Scores:
    return Scores(
        *(np.concatenate([getattr(each, name) for each in scores]) for name in ("solved", "passes", "tokens"))
    )


def _row(task: str, setting: str, one: Scores, scores: Scores) -> TaskScore:
    solved, cases = scores.solved, len(scores.solved)
    return TaskScore(
        task=task,
        setting=setting,
        cases=cases,
        solved=float(solved.mean()),
        solved_interval=wilson(int(solved.sum()), cases),
        passes=float(scores.passes.mean()),
        tokens_per_pass=float(scores.tokens.sum() / max(1, scores.passes.sum())),
        difference=float(solved.mean() - one.solved.mean()),
        lost=int((one.solved & ~solved).sum()),
        gained=int((solved & ~one.solved).sum()),
        p_value=mcnemar(one.solved, solved),
    )
