"""What it saves to make several texts at once: single passes, a batch in this process, and clients of a server.

    python benchmarks/together.py passes ARTIFACT [--texts 8] [--cached 200] [--rounds 3] [--threads N]
    python benchmarks/together.py batch ARTIFACT [--texts 8] [--tokens 64] [--pass-tokens 2] [--threads N]
    python benchmarks/together.py server ARTIFACT [--clients 8] [--requests 32] [--tokens 32] [--threads N]

Both are measured in turns against one sequence after the other, as the server does it without `--parallel`. Prompts are
unequally long. Tokens per pass are fixed, since weights of noise are never sure of anything. Texts are compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

import dream_edge
from dream_edge_runtime.host import describe_machine
from dream_edge_runtime.inference.together import PassRequest, forward_group

WORDS = "the old man saw a dog near his red house while two boys were singing in the garden after lunch".split()


class OneByOne:
    """A network whose passes are of one sequence each."""

    pass_overhead = 0

    def __init__(self, network: Any) -> None:
        self.config, self.keeps_keys, self.forward = network.config, network.keeps_keys, network.forward


def write_prompt(index: int) -> str:
    """Of 10 to 80 words."""
    rng = np.random.default_rng(index)
    return " ".join(rng.choice(WORDS, size=10 + 10 * (index % 8)))


def describe(tokens: int, pass_tokens: int) -> dict[str, Any]:
    steps = max(1, tokens // pass_tokens)
    return {"steps": steps, "algorithm": "maskgit_plus", "cache": "dual", "block_length": min(32, tokens)}


def measure_passes(given: argparse.Namespace) -> None:
    """Cached passes of some positions, over each text by itself and over all of them."""
    network: Any = dream_edge.load(given.artifact, threads=given.threads).network
    rng, cached = np.random.default_rng(0), given.cached

    def ask(active: int, before: int, **past: Any) -> PassRequest:
        ids, mask = rng.integers(1000, size=active), np.ones((1, before + active), np.bool_)
        return PassRequest(ids, np.arange(before, before + active), mask, np.arange(0, active, 4), 0.0, **past)

    (rows,) = forward_group(network, [ask(cached, 0, keep=True)], None)
    print(f"{given.artifact}; {describe_machine()}\n\n| positions | one | {given.texts} | faster |\n|---|---|---|---|")
    for active in (1, 4, 8, 16, 33):
        requests = [ask(active, cached, past=rows.key_values) for _ in range(given.texts)]
        alone, joined = (
            min(seconds(lambda: forward_group(network, asked, None)) for _ in range(given.rounds + 1))  # noqa: B023
            for asked in (requests[:1], requests)
        )
        print(f"| {active} | {1000 * alone:.1f} ms | {1000 * joined:.1f} ms | {given.texts * alone / joined:.2f} × |")


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def measure_batch(given: argparse.Namespace) -> None:
    model = dream_edge.load(given.artifact, threads=given.threads)
    prompts = [write_prompt(index) for index in range(given.texts)]
    apart = replace(model, network=OneByOne(model.network))
    options = {"max_new_tokens": given.tokens, **describe(given.tokens, given.pass_tokens)}
    found: dict[str, list[float]] = {"one by one": [], "together": []}
    texts: dict[str, list[str]] = {}
    for each in (apart, model):
        each.generate_batch(prompts[:2], **{**options, "max_new_tokens": 8, "steps": 2, "block_length": 8})
    for _ in range(given.rounds):
        for name, each in (("one by one", apart), ("together", model)):
            start = time.perf_counter()
            made = each.generate_batch(prompts, **options)
            found[name].append(time.perf_counter() - start)
            texts[name] = [text.text for text in made]
    show(given, found, texts, given.texts * given.tokens)


def measure_server(given: argparse.Namespace) -> None:
    found: dict[str, list[float]] = {"one by one": [], "together": []}
    texts: dict[str, list[str]] = {}
    settings = {
        "model": "it",
        "max_tokens": given.tokens,
        "temperature": 0,
        **describe(given.tokens, given.pass_tokens),
    }
    with serving(given) as apart, serving(given, "--parallel", str(given.clients)) as joined:
        for _ in range(given.rounds):
            for name, url in (("one by one", apart), ("together", joined)):
                with ThreadPoolExecutor(given.clients) as pool:
                    start = time.perf_counter()
                    bodies = [settings | {"prompt": write_prompt(index)} for index in range(given.requests)]
                    texts[name] = [*pool.map(lambda body: ask(url, body), bodies)]  # noqa: B023 - used in this turn
                    found[name].append(time.perf_counter() - start)
    show(given, found, texts, given.requests * given.tokens)


@contextmanager
def serving(given: argparse.Namespace, *options: str) -> Iterator[str]:
    """The address of a server of its own process."""
    threads = ["--threads", str(given.threads)] if given.threads else []
    command = [sys.executable, "-m", "dream_edge", "serve", given.artifact, "--name", "it", "--port", "0"]
    command += ["--queue", "100", *threads, *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stderr is not None
        url = next(part for line in server.stderr for part in line.split() if part.startswith("http://")).rstrip(".")
        drain = ThreadPoolExecutor(1)
        drain.submit(server.stderr.read)
        for index in range(3):  # loading, and the first passes
            ask(url, {"model": "it", "prompt": write_prompt(index), "max_tokens": 4})
        yield url
    finally:
        server.terminate()
        server.wait()


def ask(url: str, body: dict[str, Any]) -> str:
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return str(json.load(answer)["choices"][0]["text"])
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise SystemExit(error.read().decode()) from None
            time.sleep(0.5)


def show(given: argparse.Namespace, found: dict[str, list[float]], texts: dict[str, list[str]], tokens: int) -> None:
    best = {name: min(seconds) for name, seconds in found.items()}
    equal = sum(one == other for one, other in zip(*texts.values(), strict=True))
    print(f"{given.artifact}; {describe_machine()}\n\n| how | seconds | tokens a second |\n|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} | {tokens / seconds:.1f} |")
    print(
        f"\n{best['one by one'] / best['together']:.2f} times as fast; {equal} of {len(texts['together'])} texts equal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("passes", "batch", "server"))
    parser.add_argument("artifact", help='directory of an artifact, or "tiny"')
    parser.add_argument("--texts", type=int, default=8, help="of a batch")
    parser.add_argument("--clients", type=int, default=8, help="of the server, at once")
    parser.add_argument("--requests", type=int, default=32, help="to the server, of all clients together")
    parser.add_argument("--tokens", type=int, default=64, help="new ones of each text")
    parser.add_argument("--pass-tokens", type=int, default=2, help="revealed in a pass")
    parser.add_argument("--cached", type=int, default=200, help="positions before those of a single pass")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    {"passes": measure_passes, "batch": measure_batch, "server": measure_server}[given.what](given)


if __name__ == "__main__":
    main()
