"""What each way to reveal tokens saves and costs: task scores of a tiny Dream against passes and computed positions.

    python benchmarks/decoding.py --cases 1000
    python benchmarks/decoding.py --cases 1000 --new-tokens 256 --settings careful fast streaming turbo

Every setting solves the same held-out cases, and is compared with the official loop case by case. `--new-tokens` gives
texts more room than a task needs, as those who ask do not know the length of the answer; the official loop, which takes
a step for each token of it, is always given what the task needs.
`--workers` share the settings out among processes, each with one thread; scores and counts do not depend on it, seconds
do.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import dream_edge
from dream_edge.quality.measure.estimates import mcnemar
from dream_edge.tasks.scoring import Scores
from dream_edge_runtime.arrays import BoolArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.options import PRESETS
from dream_edge_runtime.inference.network import KeyValues, Network, Rows
from tools.tiny.tasks import LONG, SHORT, TASKS

OFFICIAL = "exact"
_WHOLE: Mapping[str, Any] = {"cache": "none", "suffix_window": None, "block_length": None}
SETTINGS: dict[str, Mapping[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS},
    "fast, window 0": {"suffix_window": 0},
    "fast, window 128": {"suffix_window": 128},
    "fast, no cache": {"cache": "none"},
    "fast, dual cache": {"cache": "dual"},
    "threshold 0.9": {"threshold": 0.9, **_WHOLE},
    "threshold 0.95": {"threshold": 0.95, **_WHOLE},
    "threshold 0.98": {"threshold": 0.98, **_WHOLE},
    "factor 0.5": {"reveal": "factor:0.5", **_WHOLE},
    "entropy_bound 0.05": {"reveal": "entropy_bound:0.05", **_WHOLE},
    "dual cache, one token a step": {"cache": "dual", "algorithm": "entropy"},
}
DRAWS: dict[str, Mapping[str, Any]] = {
    "temperature 0": {},
    "temperature 0.1": {"temperature": 0.1},
    "temperature 0.2, top_p 0.95": {"temperature": 0.2, "top_p": 0.95},
    "temperature 0.7, top_p 0.8, top_k 20": {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "top_k 1": {"top_k": 1},
}
"""How tokens are drawn. `--draw` has the official loop and every setting draw them so."""


class Metered:
    """A network that counts the positions it computes."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.passes: Counter[tuple[int, int]] = Counter()
        """How many passes of a sequence computed so many positions beside so many that were remembered."""

    @property
    def config(self) -> ModelConfig:
        return self._network.config

    @property
    def keeps_keys(self) -> bool:
        return self._network.keeps_keys

    @property
    def pass_overhead(self) -> int:
        return self._network.pass_overhead

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        attention_mask: BoolArray,
        logit_rows: IntArray,
        temperature: float,
        cancel: threading.Event | None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        batch, active = input_ids.shape
        self.passes[active, past.count if past else 0] += batch
        return self._network.forward(
            input_ids, position_ids, attention_mask, logit_rows, temperature, cancel, past=past, keep=keep
        )


@dataclass(frozen=True)
class Found:
    """One setting on one task."""

    setting: str
    task: str
    scores: Scores
    by_size: Counter[tuple[int, int]]
    """How many passes computed so many positions beside so many remembered ones, of all cases, padding included."""
    seconds: float

    @property
    def positions(self) -> int:
        """That went through the network, of all cases together."""
        return sum(active * count for (active, _), count in self.by_size.items())

    @property
    def passes(self) -> float:
        """Of one text."""
        return float(self.scores.passes.mean())

    @property
    def tokens_per_pass(self) -> float:
        """Tokens that the texts keep, for each pass."""
        return float(self.scores.tokens.sum() / self.scores.passes.sum())


def measure(artifact: str, setting: str, task: str, cases: int, options: Mapping[str, Any]) -> Found:
    model = dream_edge.load(artifact, threads=1)
    network = Metered(model.network)
    start = time.perf_counter()
    given = {name: value for name, value in options.items() if (setting, name) != (OFFICIAL, "max_new_tokens")}
    scores = TASKS[task](replace(model, network=network), cases, {**SETTINGS[setting], **given, "seed": 5})
    return Found(setting, task, scores, network.passes, time.perf_counter() - start)


def measure_all(
    artifact: str, settings: Sequence[str], tasks: Sequence[str], cases: int, workers: int, options: Mapping[str, Any]
) -> Iterable[Found]:
    """In any order, as they come."""
    with ProcessPoolExecutor(workers) as pool:
        running = [
            pool.submit(measure, artifact, setting, task, cases, options) for setting in settings for task in tasks
        ]
        for done in as_completed(running):
            yield done.result()


def summary(found: Found, official: Found) -> dict[str, Any]:
    """What is told of one setting on one task; `points` and `p` against the official loop, paired."""
    solved, reference = found.scores.solved, official.scores.solved
    difference = solved.astype(float) - reference
    return {
        "setting": found.setting,
        "task": found.task,
        "score": float(solved.mean()),
        "points": 100 * float(difference.mean()),
        "points_error": 100 * float(difference.std(ddof=1) / np.sqrt(len(difference))),
        "p": mcnemar(reference, solved),
        "passes": found.passes,
        "fewer_passes": official.passes / found.passes,
        "tokens_per_pass": found.tokens_per_pass,
        "positions_per_token": found.positions / int(found.scores.tokens.sum()),
        "positions": found.positions / len(solved),
        "passes_by_size": [[*size, count / len(solved)] for size, count in sorted(found.by_size.items())],
        "seconds": found.seconds,
    }


def table(rows: Sequence[Mapping[str, Any]], cases: int) -> str:
    lines = [
        f"{cases} held-out cases of each task. Points: against the official loop, paired, with one standard error.\n",
        "| setting | task | score | points | p | passes | fewer | tokens a pass | positions a token | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        points = f"{row['points']:+.1f} ± {row['points_error']:.1f}"
        lines.append(
            f"| {row['setting']} | {row['task']} | {row['score']:.1%} | {points} | {row['p']:.2f} "
            f"| {row['passes']:.1f} | {row['fewer_passes']:.1f} × | {row['tokens_per_pass']:.2f} "
            f"| {row['positions_per_token']:.1f} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Score against computed positions a token, one panel a task."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, panels = pyplot.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 4), squeeze=False, layout="constrained")
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    colors = pyplot.get_cmap("tab20")(np.linspace(0, 1, max(len(settings), 2)))
    markers = "osD^vP*X<>"
    for panel, task in zip(panels[0], tasks, strict=True):
        for index, setting in enumerate(settings):
            for row in rows:
                if (row["task"], row["setting"]) == (task, setting):
                    panel.plot(
                        row["positions_per_token"],
                        100 * row["score"],
                        markers[index % len(markers)],
                        color=colors[index],
                        label=setting,
                    )
        official = next(row for row in rows if row["task"] == task and row["setting"] == OFFICIAL)
        panel.axhline(100 * official["score"], color="0.6", linewidth=0.8, linestyle="--")
        panel.set(title=task, xlabel="computed positions a token", xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.25)
    panels[0][0].set_ylabel("solved, %")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", default="tiny", help="one that has learnt the tasks")
    parser.add_argument("--cases", type=int, default=1000, help="held-out cases of each task")
    parser.add_argument("--new-tokens", type=int, help="room for the text; default: what the task needs")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=SHORT)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--draw", choices=list(DRAWS), default="temperature 0", help="how tokens are drawn")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="where to draw score against positions a token")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    settings, tasks = list(dict.fromkeys([OFFICIAL, *options.settings])), list(options.tasks)
    given = dict(DRAWS[options.draw])
    if options.new_tokens:
        given["max_new_tokens"] = options.new_tokens
        tasks = [task for task in tasks if task not in ("sentences", *LONG)]  # holes and long texts say their own room
    found: dict[tuple[str, str], Found] = {}
    for each in measure_all(options.artifact, settings, tasks, options.cases, options.workers, given):
        found[each.setting, each.task] = each
        print(f"{each.setting}, {each.task}: {each.scores.solved.mean():.1%} in {each.seconds:.0f} s", flush=True)
    rows = [summary(found[setting, task], found[OFFICIAL, task]) for setting in settings for task in tasks]
    print("\n" + table(rows, options.cases))
    if options.json:
        options.json.write_text(json.dumps({"cases": options.cases, "rows": rows}, indent=1) + "\n", "utf-8")
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
