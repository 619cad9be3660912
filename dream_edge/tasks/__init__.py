"""Planning puzzles that any Dream can be asked: 4 × 4 Sudoku and Countdown, in the form of Dream's own evaluation.

Cases are drawn by a seed; the checkers do not depend on what draws them.
"""

from .countdown import COUNTDOWN
from .sudoku import SUDOKU
from .task import Case, Task

__all__ = ["COUNTDOWN", "SUDOKU", "TASKS", "Case", "Task"]

TASKS = {task.name: task for task in (SUDOKU, COUNTDOWN)}
