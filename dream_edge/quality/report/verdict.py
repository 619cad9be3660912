"""The figures in two sentences for somebody who has never heard of KL divergence."""

from __future__ import annotations

from dataclasses import dataclass

from ..comparison import Comparison
from ..tasks import TaskComparison

NOISE = 2.0
"""How many times the KL of bf16 noise still counts as that noise."""
CHANCE = 0.05
"""p-values below it are called more than chance."""


@dataclass(frozen=True)
class Grade:
    """How much was lost. It takes both: a mean KL of at most `kl` nats, and the same best token at least this often.

    The steps are those that autoregressive models taught: Q8_0 has a KL of about 0.001 and 99 %, Q4_K_M about 0.03.
    """

    name: str
    kl: float
    same_top: float
    says: str


GRADES = (
    Grade("none", 0.0005, 0.99, "behaves like the original"),
    Grade("slight", 0.005, 0.97, "is very close to the original"),
    Grade("small", 0.03, 0.93, "is close to the original, with differences now and then"),
    Grade("noticeable", 0.15, 0.85, "differs noticeably from the original"),
    Grade("large", float("inf"), 0.0, "differs strongly from the original"),
)

_IN_USE = {
    "none": "It can be used in its place without a second thought.",
    "slight": "Most texts come out the same, some are worded otherwise, none should be worse.",
    "small": "Texts are often worded otherwise and now and then a little worse; check it on your own task.",
    "noticeable": "Expect mistakes that the original does not make; choose a larger one if there is room.",
    "large": "It should not be used; choose a larger one.",
}


@dataclass(frozen=True)
class Verdict:
    """How much was lost, and two sentences about it."""

    grade: Grade
    first: str
    """What it is like."""
    second: str
    """What that means in use."""

    @property
    def text(self) -> str:
        """Both sentences."""
        return f"{self.first} {self.second}"


def judge(comparison: Comparison) -> Verdict:
    """Two sentences, by the thresholds above; what differs no more than bf16 noise does is called the same."""
    measured, noise = comparison.overall, comparison.noise
    noisy = noise is not None and measured.kl_mean <= NOISE * noise.overall.kl_mean
    reached = [each for each in GRADES if measured.kl_mean <= each.kl and measured.same_top >= each.same_top]
    grade = GRADES[0] if noisy else reached[0]
    says = "cannot be told apart from the original computed in 16 bits" if noisy else grade.says
    hundredth = f"{100 * measured.same_top:.1f}"
    first = f"{comparison.artifact} {says}: of 100 hidden tokens, both expect the same one at {hundredth}."
    return Verdict(grade, first, _IN_USE[grade.name] if comparison.tasks is None else _on_tasks(comparison.tasks))


def _on_tasks(tasks: TaskComparison) -> str:
    measured = tasks.overall
    scores = f"It solves {measured.artifact:.1%} of {measured.cases} test cases where the original solves "
    points = 100 * (measured.artifact - measured.reference)
    if measured.p_value >= CHANCE:
        return f"{scores}{measured.reference:.1%}, a difference that chance explains."
    return f"{scores}{measured.reference:.1%}: {abs(points):.1f} points {'more' if points > 0 else 'less'}."


def explain_grades() -> list[tuple[str, str, str]]:
    """The rules as rows: the grade, what it takes, what it is called."""
    rows = [
        (each.name, f"mean KL ≤ {each.kl:g} and same best token ≥ {each.same_top:.0%}", each.says)
        for each in GRADES[:-1]
    ]
    rows[0] = (rows[0][0], f"{rows[0][1]}; or mean KL ≤ {NOISE:g} × that of bf16 noise", rows[0][2])
    return [*rows, (GRADES[-1].name, "anything else", GRADES[-1].says)]
