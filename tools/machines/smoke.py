"""Go through the product as a user does, in whatever Python runs this; the light install is enough.

python tools/machines/prepare.py build/machines        # once, on Linux on x86-64, with the export extra
python tools/machines/smoke.py build/machines OUT      # on every machine; needs no network

It prints a line for each step, writes OUT/results.json and OUT/logits.npz, and exits with 1 if a step failed.

Logits of fixed inputs are compared with those of the machine that prepared the artifacts. The bound: both round the
same exact product, that of the stored weights in double precision, which was prepared too; R is how far the preparing
machine is from it, and another that rounds as finely is about as far away: 2 R apart at most. Where one of them has
activations of 7 bits instead of 8 (`saturates`), its steps are 127 / 63 as large, and so is its R.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import platform
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if importlib.util.find_spec("dream_edge") is None:
    sys.path[:0] = map(str, (ROOT, ROOT / "runtime"))  # the checkout, where the product is not installed

SCHEMES = ("fp32", "fp16", "int8", "int4", "mixed", "nf4")
SHOWN = ("dream-edge", "numpy", "onnxruntime", "tokenizers", "typer", "rich")
STEP = {False: 1.0, True: 127 / 63}  # of activations, relative to 8 bits, by whether the int8 product saturates
QUESTION = "What sound does the dog make?"


class Report:
    """Runs steps and keeps what came of them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def run(self, name: str, step: Callable[[], str]) -> None:
        """Run `step`, which returns its outcome in words; an exception of it is a failure, and the next one runs."""
        began = time.perf_counter()
        try:
            outcome, passed = step(), True
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome, passed = f"{type(error).__name__}: {error}", False
        seconds = time.perf_counter() - began
        self.steps.append({"step": name, "passed": passed, "outcome": outcome, "seconds": round(seconds, 3)})
        print(f"{'ok  ' if passed else 'FAIL'} {name:<16} {seconds:7.2f} s  {outcome}".rstrip(), flush=True)

    @property
    def failed(self) -> int:
        return sum(not step["passed"] for step in self.steps)


class Said(NamedTuple):
    out: str
    err: str


def command(*arguments: str, stdin: str = "") -> Said:
    """`dream-edge` in this process, since an emulated Python cannot start another; what it wrote, decoded as UTF-8."""
    from dream_edge.cli import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.stdin = before
    said = Said(*(stream.buffer.getvalue().decode() for stream in (out, err)))
    if code not in (0, None):
        raise RuntimeError(f"exit {code}: {said.err.strip()[-300:]}")
    return said


# --- the steps -------------------------------------------------------------------------------------------------------


def import_all() -> str:
    import dream_edge  # noqa: F401
    from dream_edge_runtime.inference.devices import import_onnxruntime

    import_onnxruntime()
    versions = {each.name: each.version for each in metadata.distributions()}
    return ", ".join(f"{name} {versions.get(name, 'from here')}" for name in SHOWN)


def probe_int8() -> str:
    from dream_edge_runtime.inference.self_check import saturates

    return "saturates: activations of 7 bits" if saturates() else "does not saturate: activations of 8 bits"


def fixed_inputs(vocab_size: int, mask_id: int) -> tuple[Any, Any]:
    """Ids [2, 40], every third masked, and which of them are valid: the second row is padded on the left."""
    import numpy as np

    ids = np.random.default_rng(0).integers(vocab_size, size=(2, 40))
    ids[:, ::3] = mask_id
    return ids, np.arange(40) >= np.array([[0], [9]])


def compute_logits(artifact: Path) -> Any:
    """Logits fp32 [80, vocab] of the fixed inputs, computed as generation computes them."""
    import numpy as np

    import dream_edge

    network = dream_edge.load(artifact, threads=1, device="cpu").network
    ids, valid = fixed_inputs(network.config.vocab_size, network.config.mask_token_id)
    positions = np.maximum(valid.cumsum(axis=1) - 1, 0)
    return network.forward(ids, positions, valid[:, None], np.arange(ids.size), 0.0, None).fetch_logits()


def bench(prepared: Path) -> str:
    short = ("--canvas", "32", "-n", "4", "--repeats", "1")
    found = json.loads(command("bench", str(prepared / "int8"), *short, "--json").out)
    return f"{len(found['passes'])} passes timed"


def list_cache(prepared: Path) -> str:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # not the user's
        command("generate", str(prepared / "int4"), "-p", QUESTION, "-n", "8", "--as-int8")
        listed = json.loads(command("cache", "--json").out)
        removed = command("cache", "--remove", "all").out.strip()
    if len(listed["entries"]) != 1:
        raise RuntimeError(f"the cache should hold one copy: {listed}")
    return removed


def serve(prepared: Path) -> str:
    missing = [name for name in ("fastapi", "uvicorn", "h11") if importlib.util.find_spec(name) is None]
    if missing:
        return f"skipped: {', '.join(missing)} not installed"

    import dream_edge

    with serving(lambda: dream_edge.load(prepared / "int8", threads=1)) as url:
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(600):  # it answers 503 while the model is loaded
            try:
                with opener.open(request) as reply:
                    return repr(json.load(reply)["choices"][0]["message"]["content"])
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 503:
                    raise
                time.sleep(0.1)
    raise RuntimeError("the model is not loaded after a minute")


@contextmanager
def serving(load: Callable[[], Any]) -> Iterator[str]:
    from dream_edge.server import ServerSettings
    from dream_edge.server import serve as run

    listening, found = threading.Event(), dict[str, Any]()

    def on_listening(url: str, stop: Callable[[], None]) -> None:
        found.update(url=url, stop=stop)
        listening.set()

    thread = threading.Thread(target=run, args=(load, "tiny", ServerSettings(port=0), "0", on_listening))
    thread.start()
    try:
        if not listening.wait(60):
            raise RuntimeError("it does not listen after a minute")
        yield found["url"]
    finally:
        if "stop" in found:
            found["stop"]()
        thread.join(60)


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(own: Any, exact: Any, other: Any, ratio: float) -> str:
    """How far logits are from the other machine's; raises where that is more than the bound. `ratio` is that of R."""
    import numpy as np

    distance = float(np.abs(other - exact).max())
    bound, apart = distance * (1 + ratio), float(np.abs(own - other).max())
    words = f"{apart:.3g} apart, bound {bound:.3g}; {float(np.abs(own - exact).max()):.3g} from the exact product"
    if not apart <= bound:
        raise RuntimeError(words)
    return words


def compare_texts(texts: dict[str, dict[str, str]], others: dict[str, dict[str, str]]) -> str:
    """Greedy texts may differ where two tokens are equally likely up to a rounding, so this is told and no failure."""
    told = [(scheme, name) for scheme in texts for name in texts[scheme]]
    differing = [f"{scheme} {name}" for scheme, name in told if others.get(scheme, {}).get(name) != texts[scheme][name]]
    return f"{len(told) - len(differing)} of {len(told)} are the same" + "".join(f"; not {each}" for each in differing)


def main() -> None:
    parser = argparse.ArgumentParser(description="Go through the product as a user does.")
    parser.add_argument("prepared", type=Path, help="what prepare.py wrote")
    parser.add_argument("out", type=Path, help="a folder for the results")
    parser.add_argument("--compare", type=Path, metavar="OUT", help="results of another machine [PREPARED/results]")
    parser.add_argument("--skip", nargs="+", choices=("bench", "cache", "serve"), default=(), metavar="STEP")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES, metavar="NAME")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report = go_through(
        given.prepared, given.out, given.compare or given.prepared / "results", given.schemes, given.skip
    )
    print(f"{len(report.steps)} steps, {report.failed} failed")
    sys.exit(report.failed > 0)


def go_through(
    prepared: Path, out: Path, compared: Path, schemes: Sequence[str], skipped: Sequence[str] = ()
) -> Report:
    report, texts, logits = Report(), dict[str, dict[str, str]](), dict[str, Any]()
    machine = {"system": platform.platform(), "machine": platform.machine(), "python": platform.python_version()}
    print(", ".join(machine.values()), flush=True)
    report.run("import", import_all)
    report.run("probe of int8", probe_int8)
    for scheme in schemes:
        for name, step in steps_of(prepared / scheme, texts.setdefault(scheme, {}), logits).items():
            report.run(f"{scheme} {name}", step)
    for name, verb in {"bench": bench, "cache": list_cache, "serve": serve}.items():
        if name not in skipped:
            report.run(name, partial(verb, prepared))

    import numpy as np

    from dream_edge_runtime.inference.self_check import saturates

    np.savez_compressed(out / "logits.npz", allow_pickle=False, **logits)
    if (compared / "results.json").is_file() and compared.resolve() != out.resolve():
        other = json.loads((compared / "results.json").read_text("utf-8"))
        ratio = STEP[saturates()] / STEP[other["saturates"]]
        with np.load(compared / "logits.npz") as others, np.load(prepared / "exact.npz") as exact:
            for scheme, own in logits.items():
                step = partial(compare, own, exact[scheme], others[scheme], ratio)
                report.run(f"{scheme} compare", step)
        report.run("texts", lambda: compare_texts(texts, other["texts"]))
    found = {"machine": machine, "saturates": saturates(), "texts": texts, "steps": report.steps}
    (out / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return report


def steps_of(artifact: Path, texts: dict[str, str], logits: dict[str, Any]) -> dict[str, Callable[[], str]]:
    """What is done with one artifact; texts and logits are put into these."""
    path, asked = str(artifact), ("-p", QUESTION, "-n", "16", "--json")
    holes = ("--prefix", "The dog ", "--suffix", " in the garden.", "--length", "4", "--json")

    def keep(name: str, text: str) -> str:
        texts[name] = text
        return repr(text)

    def text_of(name: str, *arguments: str) -> str:
        return keep(name, json.loads(command(*arguments).out)["text"])

    def keep_logits() -> str:
        logits[artifact.name] = compute_logits(artifact)
        return str(logits[artifact.name].shape)

    return {
        "info": lambda: f"{json.loads(command('info', path, '--json').out)['bytes']} bytes",
        "verify": lambda: command("verify", path).out.split(":")[-1].strip(),
        "exact": lambda: text_of("exact", "generate", path, *asked, "--exact"),
        "default": lambda: text_of("default", "generate", path, *asked),
        "infill": lambda: text_of("infill", "infill", path, *holes),
        "chat": lambda: keep("chat", command("chat", path, "-n", "16", stdin=f"{QUESTION}\n/exit\n").out.strip()),
        "logits": keep_logits,
    }


if __name__ == "__main__":
    main()
