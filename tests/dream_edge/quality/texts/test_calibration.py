"""What a calibration sees by default, and the options of `dream-edge export --calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import dream_edge
from dream_edge.cli.app import app
from dream_edge.quality.errors import NoData
from dream_edge.quality.texts.masking import calibration_set
from dream_edge.quality.texts.read import builtin_texts, calibration_texts, tiny_held_out
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.tokenizer import load_tokenizer
from dream_edge_export.quantize.calibrate import CalibrationSet
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from support.checkpoints import write_checkpoint

TINY = Checkpoint.open(Path(dream_edge.__file__).parent / "tiny")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def ratios(calibration: CalibrationSet, mask: int) -> list[float]:
    return sorted(float((canvas == mask).mean()) for canvas in calibration.canvases)


def test_built_in_texts_are_not_those_of_a_comparison() -> None:
    compared = {str(text) for text in builtin_texts()}
    ours = [text if isinstance(text, str) else text.answer for text in calibration_texts()]
    assert len(ours) == len(set(ours)) >= 50
    assert not any(text in other or other in text for text in ours for other in compared)


def test_tiny_model_is_calibrated_on_cases_that_are_not_held_out() -> None:
    tokenizer = dream_edge.load("tiny").tokenizer
    held_out = {str(text) if isinstance(text, str) else f"{text.prompt}{text.answer}" for text in tiny_held_out()}
    calibration = calibration_set(TINY, sequences=40)
    assert calibration.name == "training cases of the tiny model"
    shown = [tokenizer.decode(canvas.tolist()) for canvas in calibration.canvases]
    assert not held_out & set(shown)
    assert any("Input" in text for text in shown)


def test_every_mask_ratio_is_seen_and_the_same_again() -> None:
    data = ["one two three four five six seven eight nine ten " * 4] * 3
    calibration = calibration_set(TINY, data=data, name="numbers", sequences=50)
    found = ratios(calibration, TINY.config.mask_token_id)
    assert np.allclose(found, np.arange(1, 51) / 50, atol=0.05)
    again = calibration_set(TINY, data=data, name="numbers", sequences=50)
    assert again.digest == calibration.digest
    assert calibration_set(TINY, data=data, sequences=50, seed=1).digest != calibration.digest


def test_prompts_stay_visible(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(
        '{"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]}', "utf-8"
    )
    from dream_edge.quality import read_texts

    calibration = calibration_set(TINY, data=read_texts(file), sequences=4)
    mask = TINY.config.mask_token_id
    assert max(ratios(calibration, mask)) < 0.5
    assert all(canvas[0] != mask for canvas in calibration.canvases)


@pytest.mark.parametrize("options", [{"sequences": 0}, {"longest": 1}, {"seed": -1}, {"sequences": True}])
def test_impossible_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        calibration_set(TINY, data=["text"], **options)


def test_no_texts_are_refused() -> None:
    with pytest.raises(NoData):
        calibration_set(TINY, data=[])
    with pytest.raises(NoData):
        calibration_set(TINY, data="one string")


def test_command_calibrates_and_says_on_what(random_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Some words to see.\n\nOthers.\n", "utf-8")
    result = run(
        random_checkpoint, tmp_path / "out", "--scheme", "int4", "--calibrate",
        "--calibration-data", tmp_path / "mine.txt", "--calibration-sequences", "6",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "Calibrating on mine.txt, 6 masked sequences" in result.stderr
    assert Artifact.open(tmp_path / "out").manifest.recipe.rounding.startswith("gptq (mine.txt, 6 masked sequences")


@pytest.mark.parametrize("option", [("--calibration-data", "x.txt"), ("--calibration-sequences", "5")])
def test_options_of_a_calibration_need_one(random_checkpoint: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    result = run(random_checkpoint, tmp_path / "out", "--scheme", "int4", *option)
    assert result.exit_code == 2
    assert "belongs to --calibrate" in result.stderr


@pytest.mark.parametrize("choice", [("fp32",), ("int4", "--target", "all")])
def test_calibrations_that_make_no_sense_are_refused(
    random_checkpoint: Path, tmp_path: Path, choice: tuple[str, ...]
) -> None:
    result = run(random_checkpoint, tmp_path / "out", "--calibrate", "--scheme", *choice)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_calibration_data_that_cannot_be_read_is_an_error(random_checkpoint: Path, tmp_path: Path) -> None:
    result = run(random_checkpoint, tmp_path / "out", "--scheme", "int4", "--calibrate", "--calibration-data", "a.csv")
    assert result.exit_code == 1
    assert "a.csv" in result.stderr


def test_a_model_whose_chat_template_is_unknown_is_calibrated_on_texts(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    with_chats = calibration_set(checkpoint, sequences=60)
    (tmp_path / "chat_template.jinja").write_text("{{ 'no turns' }}", encoding="utf-8")
    without = calibration_set(checkpoint, sequences=60)
    tokenizer = load_tokenizer(tmp_path, checkpoint.config)
    turn = tokenizer.special_id("<|im_start|>")
    assert sum(turn in canvas for canvas in with_chats.canvases) > 10
    assert sum(turn in canvas for canvas in without.canvases) == 0
