"""A strategy is written in one file, this one, and found wherever options are given."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge.cli.options import expand_options
from dream_edge.openai.fields import Strict
from dream_edge.openai.generation_fields import generation_fields
from dream_edge.openai.requests import FimRequest
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.option import Real
from dream_edge_runtime.generation.reveal import STRATEGIES, ParallelReveal, register
from dream_edge_runtime.generation.sampling import Proposal
from dream_edge_runtime.generation.schedule import Timestep
from tools.site_files import tabulate_options


@pytest.fixture
def strategy() -> Iterator[None]:
    @register("best_few")
    class BestFew(ParallelReveal):
        within = Real(1, 100)
        default = 2
        help = "the X most certain tokens"
        source = "here"

        def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
            return best_first[: int(self.value)]

    yield
    del STRATEGIES["best_few"]


@pytest.mark.usefixtures("strategy")
def test_a_strategy_of_one_file_is_found_everywhere() -> None:
    assert GenerationConfig(reveal="best_few").reveal == "best_few:2"
    model = dream_edge.load("tiny", threads=1)
    texts = [
        model.generate("The", raw=True, max_new_tokens=12, reveal=f"best_few:{count}", seed=1) for count in (1, 12)
    ]
    assert texts[1].passes < texts[0].passes == 12

    request = FimRequest.model_validate({"prompt": "The", "reveal": "best_few:12"})
    assert request.options() == {"reveal": "best_few:12"}
    described = generation_fields(Strict).model_json_schema()["properties"]["reveal"]["description"]
    assert "best_few:X reveals the X most certain tokens" in described

    arguments = ["generate", "tiny", "-p", "The", "--raw", "-n", "12", "--reveal", "best_few:12", "--json"]

    assert json.loads(CliRunner().invoke(app, arguments).stdout)["passes"] == texts[1].passes

    @expand_options()
    def verb(*, settings: dict[str, object]) -> None:
        pass

    assert "best_few:X" in verb.__annotations__["reveal"].__metadata__[0].help
    assert "best_few:X reveals the X most certain tokens" in tabulate_options()
