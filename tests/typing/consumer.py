"""A user's program, which is checked and not run: what is right has its type, and every slip is an error.

A slip that a checker overlooks leaves an ignore without use, which `mypy` and `pyright` report.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import dream_edge
from dream_edge import (  # type: ignore[attr-defined]
    Artifact,
    DreamModel,
    Generation,
    GenerationConfig,
    Progress,
    Step,
    laod,  # pyright: ignore[reportAttributeAccessIssue]
)


def use(model: DreamModel) -> None:
    assert_type(dream_edge.load("tiny"), DreamModel)
    assert_type(model.generate("Why?"), Generation)
    assert_type(model.generate("Why?").text, str)
    assert_type(model.chat([{"role": "user", "content": "Why?"}], temperature=0.2).text, str)
    assert_type(model.infill(prefix="def add(a, b):", suffix="    return c", length=8).holes[0], str)
    assert_type(model.fill("The [[2]] sat on the [[1]].", GenerationConfig(steps=3)).text, str)
    for step in model.stream("Why?", max_new_tokens=16):
        assert_type(step, Step)
        assert_type(step.progress, float)


def use_verbs() -> None:
    assert_type(dream_edge.export("checkpoint", "out", scheme="int4"), Artifact)
    assert_type(dream_edge.verify("out"), Artifact)
    assert_type(dream_edge.pull("owner/name", progress=show), Path)
    assert_type(dream_edge.info("out").parameters, int)
    assert_type(dream_edge.bench("out").load.seconds, float)
    assert_type(dream_edge.recommend(patience=30.0).best is None, bool)
    assert_type(dream_edge.batch("out", "in.jsonl", "answers.jsonl").done, int)


def show(now: Progress) -> None:
    assert_type(now.share, float)


def misuse(model: DreamModel) -> None:
    laod("tiny")
    dream_edge.GenerationConfg()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    dream_edge.export("checkpoint", "out", scheme="int3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    dream_edge.load("tiny", thread=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    GenerationConfig(max_new_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    GenerationConfig(steps="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    model.generate("Why?", max_new_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(model.generate("Why?").txt)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    model.generate(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
