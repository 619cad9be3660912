"""What a tiny network has learnt, in full precision, on held-out cases: greedy, `entropy` order, the official schedule.

    python -m tools.tiny.scores dream_edge/tiny --cases 1000

A block-causal network decodes block by block, the most probable token first, as the published loops do: earlier blocks
are final, later ones do not exist yet.
"""

import argparse
import itertools
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from dream_edge.tasks import countdown, sudoku
from dream_edge.tasks.task import Task
from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_export.reference.model import Dream, shift
from tools.tiny import questions, sentences
from tools.tiny.long_tasks import LONG_TASKS
from tools.tiny.tokenizer import load_tokenizer

EPS = 1e-3
BATCH = 100
SHORT = ("sudoku", "countdown", "sentences", "questions")
LONG = tuple(task.name for task in LONG_TASKS)


class Scorer:
    """Generates with the reference network and asks the tasks' checkers."""

    def __init__(self, dream: Dream, tokenizer: Tokenizer) -> None:
        self.dream = dream
        self.tokenizer = tokenizer

    def sudoku(self, rng: np.random.Generator, count: int) -> dict[str, float]:
        """Share solved of all cases (as many of each number of blanks), and by number of blanks."""
        choices = range(sudoku.FEWEST_BLANKS, sudoku.MOST_BLANKS + 1)
        blanks = [choices[index % len(choices)] for index in range(count)]
        cases = sudoku.generate(rng, count, held_out=True, blanks=blanks)
        texts = self.complete([case.prompt for case in cases], 24)
        solved = np.array([sudoku.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)])
        by_blanks = {f"sudoku, {n} blanks": float(solved[np.array(blanks) == n].mean()) for n in choices}
        return {"sudoku": float(solved.mean()), **by_blanks}

    def countdown(self, rng: np.random.Generator, count: int) -> dict[str, float]:
        scores = {}
        for largest in (10, 30):
            cases = countdown.generate(rng, count, held_out=True, largest=largest)
            texts = self.complete([case.prompt for case in cases], 32)
            solved = [countdown.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)]
            scores[f"countdown, numbers to {largest}"] = sum(solved) / count
        return scores

    def questions(self, rng: np.random.Generator, count: int) -> dict[str, float]:
        cases = questions.generate(rng, count, held_out=True)
        turns = [len(questions.user_turns(case.prompt)) for case in cases]
        texts = self.complete([case.prompt for case in cases], 32)
        right = np.array([questions.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)])
        by_turns = {f"questions, {n} turns": float(right[np.array(turns) == n].mean()) for n in sorted(set(turns))}
        return {"questions": float(right.mean()), **by_turns}

    def sentences(self, rng: np.random.Generator, count: int) -> dict[str, float]:
        """Share still grammatical after one to four of their words were masked and filled."""
        cases = sentences.generate(rng, count, held_out=True)
        holes = [1 + index % 4 for index in range(count)]
        texts = self.fill([case.text for case in cases], holes, rng)
        right = np.array([sentences.solves(text) for text in texts])
        by_holes = {f"sentences, {n} masked": float(right[np.array(holes) == n].mean()) for n in sorted(set(holes))}
        return {"sentences": float(right.mean()), **by_holes}

    def long(self, task: Task, rng: np.random.Generator, count: int) -> dict[str, float]:
        cases = task.generate(rng, count, held_out=True)
        texts = self.complete([case.prompt for case in cases], task.new_tokens)
        return {task.name: sum(task.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)) / count}

    def complete(self, prompts: Sequence[str], new_tokens: int) -> list[str]:
        """What follows each prompt, up to the first end-of-text token, one token a step.

        A block-causal network computes its last block to the end.
        """
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch(list(prompts))]
        texts = [""] * len(prompts)
        for length in sorted({len(ids) for ids in encoded}):
            block = self.dream.config.causal_block
            room = new_tokens + (-(length + new_tokens) % block if block else 0)
            alike = [index for index, ids in enumerate(encoded) if len(ids) == length]
            for start in range(0, len(alike), BATCH):
                chosen = alike[start : start + BATCH]
                prompt = torch.tensor([encoded[index] for index in chosen])
                canvas = torch.cat([prompt, torch.full((len(chosen), room), self.dream.config.mask_token_id)], 1)
                masked = torch.arange(length + room).expand_as(canvas) >= length
                self.reveal(canvas, masked, even_counts if block else official_counts)
                for index, ids in zip(chosen, canvas[:, length : length + new_tokens].tolist(), strict=True):
                    texts[index] = self.text(ids)
        return texts

    def fill(self, texts: Sequence[str], holes: Sequence[int], rng: np.random.Generator) -> list[str]:
        """Each text with so many of its words, drawn at random, masked and filled again, one at a step."""
        words = {token: name for name, token in self.tokenizer.get_vocab().items() if name.lstrip("Ġ").isalpha()}
        filled = []
        for start in range(0, len(texts), BATCH):
            encoded = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts[start : start + BATCH]))]
            canvas = torch.full((len(encoded), max(map(len, encoded))), self.dream.config.pad_token_id)
            masked = torch.zeros_like(canvas, dtype=torch.bool)
            valid = torch.zeros_like(masked)
            for row, ids in enumerate(encoded):
                canvas[row, : len(ids)] = torch.tensor(ids)
                valid[row, : len(ids)] = True
                places = [place for place, token in enumerate(ids) if token in words]
                masked[row, rng.choice(places, size=holes[start + row], replace=False)] = True
            canvas[masked] = self.dream.config.mask_token_id
            self.reveal(canvas, masked, even_counts, valid)
            filled += [self.tokenizer.decode(ids[: len(e)]) for ids, e in zip(canvas.tolist(), encoded, strict=True)]
        return filled

    @torch.inference_mode()
    def reveal(
        self, canvas: Tensor, masked: Tensor, schedule: Callable[[int], list[int]], valid: Tensor | None = None
    ) -> None:
        """Fill the masked places of `canvas` in place, block after block.

        `schedule` says how many places of a block to reveal at each step, given how many are masked: in every row the
        surest, by their entropy, or where there are blocks by the probability of the best token.
        """
        length, config = canvas.shape[1], self.dream.config
        size = config.causal_block or length
        for stop in range(size, length + size, size):
            seen, here = canvas[:, :stop], masked[:, :stop]
            for count in schedule(int(here.sum(-1).max())):
                if not count:
                    continue
                logits = self.dream(seen, None if valid is None else valid[:, :stop])
                log_probabilities = shift(logits, config.shift).log_softmax(-1)
                log_probabilities[..., config.mask_token_id] = -torch.inf
                probabilities = log_probabilities.exp()
                entropy = (probabilities * (probabilities + 1e-10).log()).sum(-1)
                confidence = probabilities.amax(-1) if config.causal_block else entropy
                best = confidence.masked_fill(~here, -torch.inf).argsort(dim=-1, descending=True, stable=True)[
                    :, :count
                ]
                chosen = torch.zeros_like(here).scatter_(1, best, True) & here
                seen[chosen] = probabilities.argmax(-1)[chosen]
                here &= ~chosen

    def text(self, ids: list[int]) -> str:
        end = self.dream.config.eos_token_id
        kept = ids[: ids.index(end)] if end in ids else ids
        return str(self.tokenizer.decode(kept, skip_special_tokens=False))


def even_counts(masked: int) -> list[int]:
    """One place at each step, as the published loops of block-causal networks do it with as many steps as places."""
    return [1] * masked


def official_counts(masked: int) -> list[int]:
    """How many places Dream's own loop reveals at each step, as many steps as places being asked for."""
    times = np.linspace(1, EPS, masked + 1)
    counts = []
    for time, following in itertools.pairwise(times):
        counts.append(int(masked * (1 - following / time)))
        masked -= counts[-1]
    return [*counts[:-1], counts[-1] + masked] if counts else []


def score(
    dream: Dream, tokenizer: Tokenizer, cases: int, seed: int, tasks: Collection[str] = SHORT
) -> dict[str, float]:
    """Every score of a network in `tasks`, each from `cases` held-out cases."""
    scorer = Scorer(dream, tokenizer)
    measures: dict[str, Callable[[np.random.Generator, int], dict[str, float]]] = {
        "sudoku": scorer.sudoku,
        "countdown": scorer.countdown,
        "sentences": scorer.sentences,
        "questions": scorer.questions,
        **{task.name: partial(scorer.long, task) for task in LONG_TASKS},
    }
    scores: dict[str, float] = {}
    for index, (name, measure) in enumerate(measures.items()):
        if name in tasks:
            scores |= measure(np.random.default_rng([seed, index]), cases)
    return scores


def load(directory: Path) -> tuple[Dream, Tokenizer]:
    """A stored checkpoint in full precision, and its tokenizer."""
    dream = Dream(read_checkpoint_config(directory))
    dream.load_state_dict({name: tensor.float() for name, tensor in load_file(directory / "model.safetensors").items()})
    return dream.eval(), load_tokenizer(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--cases", type=int, default=1000, help="held-out cases of each task")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", choices=SHORT + LONG, default=SHORT)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, share in score(*load(options.checkpoint), options.cases, options.seed, options.tasks).items():
        print(f"{name:28s} {share:7.1%}")


if __name__ == "__main__":
    main()
