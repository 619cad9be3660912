"""Tasks that a model can be asked: cases drawn by a seed, and checkers that do not depend on what draws them.

4 × 4 Sudoku and Countdown are in the form of Dream's own planning evaluation. The seventeen of `PARALLEL` show what
revealing several tokens at once breaks, after ParallelBench (arXiv 2510.04767).
"""

from .countdown import COUNTDOWN
from .grids import GRIDS
from .sentences import SENTENCES
from .sudoku import SUDOKU
from .task import Case, Task
from .waiting_line import WAITING_LINE

__all__ = ["COUNTDOWN", "PARALLEL", "SUDOKU", "TASKS", "Case", "Task"]

TASKS = {task.name: task for task in (SUDOKU, COUNTDOWN)}
PARALLEL = {task.name: task for task in (*WAITING_LINE, *SENTENCES, *GRIDS)}
