"""The verbs as functions: what the command line calls, called from Python."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import dream_edge
from dream_edge.description import ArtifactInfo, CheckpointInfo
from dream_edge.models import served_name
from dream_edge_export.errors import OutputExists
from dream_edge_runtime.errors import CorruptArtifact, InvalidOption
from dream_edge_runtime.progress import Progress


def test_export_reports_each_task_and_logs_what_it_takes(
    random_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dream_edge_export")
    seen: list[Progress] = []
    texts = ["The dog barks at the cat because it is hungry."] * 4
    artifact = dream_edge.export(
        random_checkpoint,
        str(tmp_path / "out"),
        scheme="int4",
        calibrate=True,
        calibration_data=texts,
        calibration_sequences=2,
        progress=seen.append,
    )
    assert artifact.manifest.recipe.rounding != "rtn"
    assert list(dict.fromkeys((each.task, each.unit) for each in seen)) == [
        ("calibrating", "layers"),
        ("exporting", "bytes"),
    ]
    assert all(0 <= each.share <= 1 for each in seen)
    assert (seen[-1].done, seen[-1].share) == (seen[-1].total, 1)
    assert "Calibrating on given texts" in caplog.text
    assert f"as int4 to {tmp_path / 'out'}" in caplog.text


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"scheme": "int3"}, "scheme"),
        ({"scheme": "int4", "block_size": 17}, "block_size"),
        ({"scheme": "int4", "calibration_sequences": 4}, "calibration_sequences"),
        ({"scheme": "int4", "calibration_data": ["text"]}, "calibration_data"),
        ({"scheme": "int4", "bits": 5.0}, "bits"),
        ({"scheme": "mixed", "bits": 5.0, "target": "all"}, "bits"),
        ({"scheme": "mixed", "bits": "4"}, "bits"),
        ({"scheme": "mixed", "bits": float("nan")}, "bits"),
        ({"scheme": "mixed", "bits": 5.0, "symmetric": True}, "bits"),
        ({"scheme": "mixed", "sensitivity": "s.json"}, "sensitivity"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_the_checkpoint_is_looked_for(
    options: dict[str, object], name: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidOption, match=name):
        dream_edge.export(tmp_path / "nowhere", tmp_path / "out", **options)  # type: ignore[arg-type]


def test_nothing_is_measured_for_a_place_that_is_taken(random_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(OutputExists):
        dream_edge.export(random_checkpoint, tmp_path / "out", scheme="mixed", bits=6.0)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_info_tells_artifacts_from_checkpoints(random_artifact: Path, random_checkpoint: Path) -> None:
    artifact, checkpoint = dream_edge.info(random_artifact), dream_edge.info(str(random_checkpoint))
    assert isinstance(artifact, ArtifactInfo)
    assert isinstance(checkpoint, CheckpointInfo)
    assert artifact.parameters == checkpoint.parameters
    assert artifact.targets == ("cpu",)
    assert artifact.gpu_memory is None
    assert sum(artifact.bytes_by_part.values()) <= artifact.bytes
    for found in (artifact, checkpoint):
        plain = json.loads(json.dumps(found.to_dict()))
        assert plain["kind"] == found.kind
        assert plain["bytes"] == found.bytes
        assert plain["parameters"] == sum(plain["parameters_by_part"].values())


def test_verify_returns_the_artifact_or_names_what_is_damaged(random_artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(random_artifact, tmp_path / "copy")
    seen: list[Progress] = []
    artifact = dream_edge.verify(copy, progress=seen.append)
    assert (seen[-1].task, seen[-1].done) == ("reading", artifact.size)
    weights = copy / "weights-00001.bin"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptArtifact, match="weights-00001"):
        dream_edge.verify(copy)


def test_loading_is_reported(random_artifact: Path) -> None:
    seen: list[Progress] = []
    dream_edge.load(random_artifact, progress=seen.append)
    assert [(each.task, each.done, each.total) for each in seen] == [
        (f"loading {random_artifact}", 0, 0),
        (f"loading {random_artifact}", 1, 1),
    ]


def test_batch_answers_a_file_with_an_artifact_named(random_artifact: Path, tmp_path: Path) -> None:
    body = {"model": random_artifact.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    seen: list[Progress] = []
    found = dream_edge.batch(random_artifact, tmp_path / "in.jsonl", str(tmp_path / "out.jsonl"), progress=seen.append)
    assert (found.done, found.before, found.refused, found.total) == (1, 0, 0, 1)
    assert json.loads((tmp_path / "out.jsonl").read_text("utf-8"))["response"]["status_code"] == 200
    assert [each.task for each in seen if each.unit] == ["answering"] * 2
    assert dream_edge.batch(random_artifact, tmp_path / "in.jsonl", tmp_path / "out.jsonl").before == 1


@pytest.mark.parametrize("option", [{"workers": 2}, {"address": "auto"}])
def test_options_of_a_cluster_belong_to_one(option: dict[str, object], tmp_path: Path) -> None:
    call: Callable[..., object] = dream_edge.batch
    with pytest.raises(InvalidOption, match="--engine ray"):
        call("tiny", tmp_path / "in.jsonl", tmp_path / "out.jsonl", **option)


def test_a_served_model_is_called_as_on_the_hub_as_bundled_or_as_its_directory(random_artifact: Path) -> None:
    artifact = dream_edge.verify(random_artifact)
    assert served_name("tiny-int8", artifact) == "tiny-int8"
    assert served_name("somebody/dream-int4@v1.1", artifact) == "somebody/dream-int4"
    assert served_name(str(random_artifact), artifact) == served_name(random_artifact, artifact) == random_artifact.name
