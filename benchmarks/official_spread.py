"""How far the official implementation differs from itself: by processor and by number format, beside dream-edge.

    python benchmarks/official_spread.py --texts 6

Greedy texts of 48 tokens, one a step, by plain PyTorch with the kernels that `ATEN_CPU_CAPABILITY` names, in fp32 and
bf16; origin draws the same numbers everywhere. Counted are tokens that differ at the end, and positions that were
revealed at another step. What a processor lacks is not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

import dream_edge
from dream_edge.tasks import countdown, sudoku
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.model import load_reference, shift
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.text.chat import chat_ids
from tools.tiny import questions, sentences
from tools.tiny.texts import messages_of

ALGORITHMS = ("maskgit_plus", "topk_margin", "entropy", "origin")
NEW = 48
EPS = 1e-3
KERNELS = {"DEFAULT": "SSE", "AVX2": "AVX2", "AVX512": "AVX-512"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Texts = list[list[list[int]]]
"""Of each text its new tokens, and at which step each was revealed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=6, help="of each of the four tasks")
    parser.add_argument("--official", choices=DTYPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.official:  # what this program starts, once for each kind of kernels
        texts = official(json.load(sys.stdin), DTYPES[options.official])
        json.dump([torch.backends.cpu.get_cpu_capability(), texts], sys.stdout)
        return
    with TemporaryDirectory() as directory:
        checkpoint = Checkpoint.open(dream_edge.resolve_checkpoint("tiny"))
        model = dream_edge.load(export(checkpoint, Path(directory) / "fp32", Recipe.for_scheme("fp32")).path)
        prompts = draw_prompts(model, options.texts)
        ours = {alg: [generate(model, alg, *pair) for pair in enumerate(prompts)] for alg in ALGORITHMS}
        del model
    found: dict[str, dict[str, Texts]] = {}
    for dtype in DTYPES:
        for capability, kernels in KERNELS.items():
            ran, texts = run(dtype, capability, prompts)
            if ran == capability:
                found[f"{dtype}, {kernels}"] = texts
    first = next(reversed([name for name in found if name.startswith("fp32")]))
    print(f"{len(prompts)} texts of {NEW} tokens; tokens that differ / positions revealed at another step\n")
    print(f"| official loop | from | {' | '.join(ALGORITHMS)} |\n|---|---|{'---|' * len(ALGORITHMS)}")
    for name, texts in found.items():
        for other, reference in ((first, found[first]), ("dream-edge", ours)):
            if name != other:
                cells = [differing(texts[alg], reference[alg]) for alg in ALGORITHMS]
                print(f"| {name} | {other} | {' | '.join(cells)} |")


def generate(model: dream_edge.DreamModel, alg: str, seed: int, prompt: list[int]) -> list[list[int]]:
    """What dream-edge gives, and at which step."""
    greedy = GenerationConfig(algorithm=alg, temperature=0, steps=NEW, max_new_tokens=NEW, seed=seed)
    canvases = np.array(model.generate(prompt, greedy, history=True).history)[:, len(prompt) :]
    return [canvases[-1].tolist(), (canvases == model.config.mask_token_id).sum(axis=0).tolist()]


def draw_prompts(model: dream_edge.DreamModel, count: int) -> list[list[int]]:
    """Token ids of so many held-out prompts of each task."""
    rng = np.random.default_rng(7)
    texts = [case.prompt for task in (sudoku, countdown) for case in task.generate(rng, count, held_out=True)]
    texts += [case.text[: len(case.text) // 3] for case in sentences.generate(rng, count, held_out=True)]
    asked = [case.prompt for case in questions.generate(rng, count, held_out=True)]
    return [model.tokenizer.encode(text) for text in texts] + [
        chat_ids(model.tokenizer, messages_of(prompt)) for prompt in asked
    ]


def run(dtype: str, capability: str, prompts: list[list[int]]) -> tuple[str, dict[str, Texts]]:
    """The official texts in a process of its own, and the kernels it had."""
    done = subprocess.run(
        [sys.executable, __file__, "--official", dtype],
        input=json.dumps(prompts),
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability.lower()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ran, texts = json.loads(done.stdout)
    return ran, texts


@torch.inference_mode()
def official(prompts: list[list[int]], dtype: torch.dtype) -> dict[str, Texts]:
    """What Dream's `diffusion_generate` gives for each prompt, by algorithm."""
    network = load_reference(Checkpoint.open(dream_edge.resolve_checkpoint("tiny"))).to(dtype)
    mask = network.config.mask_token_id
    times = torch.linspace(1, EPS, NEW + 1)
    texts: dict[str, Texts] = {alg: [] for alg in ALGORITHMS}
    for alg, (seed, prompt) in ((alg, pair) for alg in ALGORITHMS for pair in enumerate(prompts)):
        x = torch.tensor(prompt + [mask] * NEW)
        revealed = torch.zeros_like(x)
        draws = np.random.default_rng([seed, 0])
        for step in range(NEW):
            masked = (x == mask).nonzero()[:, 0]
            share = 1 - times[step + 1] / times[step] if step < NEW - 1 else torch.tensor(1.0)
            logits = shift(network(x[None]), network.config.shift)[0, masked].to(dtype)
            confidence, tokens = judge(logits, alg)
            if alg == "origin":
                chosen = torch.from_numpy(draws.random(len(masked))) < share
            else:
                chosen = confidence.topk(int(len(masked) * share)).indices
            x[masked[chosen]], revealed[masked[chosen]] = tokens[chosen], step
        texts[alg].append([x[len(prompt) :].tolist(), revealed[len(prompt) :].tolist()])
    return texts


def judge(logits: Tensor, alg: str) -> tuple[Tensor, Tensor]:
    """Confidences [rows] and tokens [rows] of `logits` [rows, vocab], in their number format."""
    probs = logits.softmax(-1)
    confidence, tokens = probs.max(-1)
    if alg == "topk_margin":
        best = probs.sort(dim=-1, descending=True).values
        confidence = best[:, 0] - best[:, 1]
    if alg == "entropy":
        confidence = (probs * (probs + 1e-10).log()).sum(-1)
    return confidence, tokens


def differing(texts: Texts, others: Texts) -> str:
    tokens, steps = (np.array(texts) != np.array(others)).sum(axis=(0, 2))
    return f"{tokens} / {steps}"


if __name__ == "__main__":
    main()
