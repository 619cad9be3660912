"""Train one of the tiny networks that ship in the package, by masked diffusion.

    python -m tools.tiny.train dream_edge/tiny --work build/tiny
    python -m tools.tiny.train dream_edge/tiny_blocks --network blocks --from dream_edge/tiny --work build/tiny_blocks

Everything is drawn from the seed and the step, so the same command, run again after an interruption, goes on where
its last snapshot ended. A smaller `--steps` on resuming makes the learning rate come down earlier.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_export.reference.model import Dream
from dream_edge_runtime.format.model_config import ModelConfig
from tools.tiny.corpus import Batch, Corpus
from tools.tiny.networks import NETWORKS, STAGES, amounts, prepare
from tools.tiny.scores import score
from tools.tiny.tokenizer import load_tokenizer

WARM_UP = 40
AVERAGING = 0.99


@dataclass(frozen=True)
class Schedule:
    """Warm-up, a constant stretch, and a linear descent to zero over the last `descent` of the steps."""

    steps: int
    descent: float = 0.45

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at `step`."""
        return min(1.0, (step + 1) / WARM_UP, (self.steps - step) / (self.descent * self.steps))


class Muon:
    """Momentum whose matrix updates are orthogonalised (Jordan et al., 2024), scaled to the size of AdamW's."""

    MOMENTUM = 0.95
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)

    def __init__(self, matrices: Iterable[nn.Parameter], weight_decay: float, half: bool) -> None:
        self.matrices = list(matrices)
        self.half = half
        self.weight_decay = weight_decay
        self.momenta = [torch.zeros_like(matrix) for matrix in self.matrices]

    def step(self, rate: float, workers: ThreadPoolExecutor) -> None:
        for done in [workers.submit(self.update, index, rate) for index in range(len(self.matrices))]:
            done.result()

    @torch.no_grad()
    def update(self, index: int, rate: float) -> None:
        matrix, momentum = self.matrices[index], self.momenta[index]
        if matrix.grad is None:
            raise RuntimeError("a matrix has no gradient: compute the loss before step()")
        momentum.lerp_(matrix.grad, 1 - self.MOMENTUM)
        direction = self.orthogonal(matrix.grad.lerp(momentum, self.MOMENTUM))
        matrix.mul_(1 - rate * self.weight_decay)
        matrix.add_(direction, alpha=-0.2 * rate * math.sqrt(max(matrix.shape)))

    def orthogonal(self, matrix: Tensor) -> Tensor:
        """Five Newton-Schulz steps towards the nearest matrix whose singular values are all one."""
        a, b, c = self.COEFFICIENTS
        tall = matrix.shape[0] > matrix.shape[1]
        result = matrix.T if tall else matrix
        result = (result / (result.norm() + 1e-7)).to(torch.bfloat16 if self.half else torch.float32)
        for _ in range(5):
            gram = result @ result.T
            result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=b, alpha=c), result, beta=a)
        return (result.T if tall else result).float()


class Training:
    """The network, its running average and the state of the optimizers."""

    def __init__(
        self, config: ModelConfig, seed: int, rate: float, weight_decay: float, workers: int, half: bool
    ) -> None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.workers, self.half = ThreadPoolExecutor(workers), half
        self.dream = Dream(config)
        initialise(self.dream)
        self.average = {name: tensor.clone() for name, tensor in self.dream.state_dict().items()}
        named = dict(self.dream.named_parameters())
        matrices = [weight for name, weight in named.items() if "layers" in name and weight.ndim == 2]
        tables = [weight for name, weight in named.items() if "layers" not in name and weight.ndim == 2]
        vectors = [weight for weight in named.values() if weight.ndim == 1]
        self.rate = rate
        self.muon = Muon(matrices, weight_decay, half)
        self.adam = torch.optim.AdamW(
            [{"params": tables, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, 0.95),
        )
        self.step = 0

    def learn(self, batches: dict[str, list[Batch]], share: float) -> dict[str, float]:
        """One update at this share of the peak rate; the loss of each task before it.

        Whole batches are shared out among the workers, one thread each, which a busy machine slows down less than
        threads that meet after every operator; the gradients are added up in the batches' order all the same.
        """
        parameters = list(self.dream.parameters())
        pending = [
            (name, 1 / len(parts), self.workers.submit(gradients, self.dream, batch, parameters, self.half))
            for name, parts in batches.items()
            for batch in parts
        ]
        losses = dict.fromkeys(batches, 0.0)
        for name, part, result in pending:
            loss, slopes = result.result()
            losses[name] += loss * part
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.grad = slope * part if parameter.grad is None else parameter.grad.add_(slope, alpha=part)
        nn.utils.clip_grad_norm_(self.dream.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.rate * share
        self.adam.step()
        self.muon.step(self.rate * share, self.workers)
        self.dream.zero_grad()
        for name, tensor in self.dream.state_dict().items():
            self.average[name].lerp_(tensor, max(1 - AVERAGING, 1 / (self.step + 1)))
        self.step += 1
        return losses

    def averaged(self) -> Dream:
        """A copy of the network with the running average of the weights."""
        dream = Dream(self.dream.config)
        dream.load_state_dict(self.average)
        return dream.eval()

    def save(self, path: Path) -> None:
        """Snapshot everything that training depends on; either whole or not at all."""
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "step": self.step,
                "dream": self.dream.state_dict(),
                "average": self.average,
                "adam": self.adam.state_dict(),
                "momenta": self.muon.momenta,
            },
            partial,
        )
        partial.replace(path)

    def restore(self, path: Path) -> None:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.dream.load_state_dict(state["dream"])
        self.average = state["average"]
        self.adam.load_state_dict(state["adam"])
        self.muon.momenta = state["momenta"]


def initialise(dream: Dream) -> None:
    """Small normal weights, smaller still where a layer adds to the residual stream."""
    residual = 0.02 / math.sqrt(2 * dream.config.num_hidden_layers)
    for name, parameter in dream.named_parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=residual if "o_proj" in name or "down_proj" in name else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def adapt(dream: Dream, source: Path) -> None:
    """Begin with the weights of the checkpoint in `source`, as the published networks of this kind began with others.

    Biases are dropped. New heads of queries read what initialising drew and add nothing yet.
    """
    given = {name: tensor.float() for name, tensor in load_file(source / "model.safetensors").items()}
    config, old = dream.config, read_checkpoint_config(source)
    groups, kept = (each.num_attention_heads // each.num_key_value_heads for each in (config, old))
    heads = torch.arange(config.num_attention_heads)
    old_rows = (heads[heads % groups < kept, None] * config.head_dim + torch.arange(config.head_dim)).flatten()
    with torch.no_grad():
        for name, tensor in dream.state_dict().items():
            if "q_proj.weight" in name:
                tensor[old_rows] = given[name]
            elif "o_proj.weight" in name:
                tensor.zero_()
                tensor[:, old_rows] = given[name]
            elif name in given:
                tensor.copy_(given[name])


def masked_loss(dream: Dream, batch: Batch) -> Tensor:
    """Weighted cross-entropy at the masked places, by the rows that predict them; the first place has its own."""
    hidden = dream.model(batch.canvas, batch.valid).flatten(0, 1)
    length = batch.canvas.shape[1]
    rows = torch.where(batch.positions % length == 0, batch.positions, batch.positions - dream.config.shift)
    logits = dream.lm_head(hidden[rows])
    loss: Tensor = (F.cross_entropy(logits, batch.targets, reduction="none") * batch.weights).sum()
    return loss


def gradients(
    dream: Dream, batch: Batch, parameters: list[nn.Parameter], half: bool
) -> tuple[float, tuple[Tensor, ...]]:
    """The loss of a batch, and its gradient for each of `parameters`; `half` multiplies in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = masked_loss(dream, batch)
    return loss.item(), torch.autograd.grad(loss, parameters)


def export(dream: Dream, directory: Path) -> None:
    """Write the weights, rounded to bfloat16, as Dream's checkpoint names them."""
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in dream.state_dict().items()}
    partial = directory / "model.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(directory / "model.safetensors")


def steps_from(first: int, schedule: Schedule) -> Iterator[tuple[int, float]]:
    for step in range(first, schedule.steps):
        yield step, schedule.rate(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="where the finished checkpoint goes")
    parser.add_argument("--work", type=Path, required=True, help="where snapshots go")
    parser.add_argument("--network", choices=list(NETWORKS), default="dream")
    parser.add_argument("--from", dest="source", type=Path, help="checkpoint with the same tokenizer to begin with")
    parser.add_argument("--steps", type=int, default=1720)
    parser.add_argument("--tasks", nargs="+", choices=list(STAGES["dream"][0]), help="all of the network's, or these")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="threads")
    parser.add_argument("--compile", action="store_true", help="about a sixth faster after a minute or two")
    parser.add_argument("--bfloat16", action="store_true", help="twice as fast where a processor multiplies it")
    parser.add_argument("--log-every", type=int, default=20, help="steps")
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    parser.add_argument("--score-every", type=int, default=400, help="steps; it takes minutes")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    config = prepare(options.checkpoint, options.network, options.seed)
    training = Training(config, options.seed, options.rate, options.weight_decay, options.workers, options.bfloat16)
    if options.source:
        adapt(training.dream, options.source)
        training.average = {name: tensor.clone() for name, tensor in training.dream.state_dict().items()}
    if options.compile:
        training.dream.model.compile(dynamic=True)
    snapshot = options.work / "snapshot.pt"
    if snapshot.exists():
        training.restore(snapshot)
    tokenizer = load_tokenizer(options.checkpoint)
    corpus = Corpus(tokenizer, config)
    tasks = {name: draw for name, draw in corpus.tasks().items() if not options.tasks or name in options.tasks}
    scored = {name for stage in STAGES[options.network].values() for name in stage}
    smooth: dict[str, float] = {}
    started, tokens = time.monotonic(), 0
    for step, share in steps_from(training.step, Schedule(options.steps)):
        rng = np.random.default_rng([options.seed, step])
        wanted = amounts(options.network, step)
        batches = {name: draw(rng, wanted[name]) for name, draw in tasks.items() if name in wanted}
        for name, loss in training.learn(batches, share).items():
            smooth[name] = loss + 0.95 * (smooth.get(name, loss) - loss)
        tokens += sum(batch.canvas.numel() for parts in batches.values() for batch in parts)
        if training.step % options.log_every == 0:
            speed = tokens / (time.monotonic() - started)
            left = (options.steps - training.step) * (time.monotonic() - started) / options.log_every
            losses = "  ".join(f"{name} {loss:.3f}" for name, loss in smooth.items())
            progress = f"step {training.step}/{options.steps}"
            print(f"{progress}  {losses}  {speed:.0f} tokens/s  {left:.0f} s left", flush=True)
            started, tokens = time.monotonic(), 0
        if training.step % options.save_every == 0 or training.step == options.steps:
            training.save(snapshot)
        if training.step % options.score_every == 0:
            for name, value in score(training.averaged(), tokenizer, 100, 2, scored).items():
                print(f"    {name:28s} {value:6.1%}", flush=True)
            started, tokens = time.monotonic(), 0
    export(training.averaged(), options.checkpoint)


if __name__ == "__main__":
    main()
