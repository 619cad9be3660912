"""What has been measured so far, kept in a file: a measurement can be made in pieces, and goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .figures import Figures, Samples


@dataclass(frozen=True)
class Question:
    """One process of one program."""

    conditions: str
    """Machine, weights, threads and instructions: what is compared has the same."""
    subject: str
    asked: str
    """Which passes, and how many."""
    round: int


class Record:
    """Answers, a line each. A line that a stopped run has left half written is not one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[Question, Figures] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                kept = json.loads(line)
            except json.JSONDecodeError:
                continue
            self._answers[Question(**kept["question"])] = kept["figures"]

    def __contains__(self, question: Question) -> bool:
        return question in self._answers

    def add(self, question: Question, figures: Figures) -> None:
        self._answers[question] = figures
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * (self._path.stat().st_size > 0 and not self._ends_a_line()))
            file.write(json.dumps({"question": vars(question), "figures": figures}) + "\n")

    def settle(self, conditions: str) -> dict[str, Figures]:
        """Each subject's figures under `conditions`, over all rounds, in the order in which they first answered."""
        samples: dict[str, Samples] = {}
        for question, figures in self._answers.items():
            if question.conditions == conditions:
                for name, value in figures.items():
                    samples.setdefault(question.subject, Samples()).add(name, value)
        return {subject: each.settled() for subject, each in samples.items()}

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, 2)
            return file.read() == b"\n"
