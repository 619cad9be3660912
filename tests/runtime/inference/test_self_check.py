"""The check of kernels at loading: it finds one that is wrong, of every kind, and never accuses one that is right."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import OnnxRuntimeUnfit, WrongProduct
from dream_edge_runtime.format.recipe import BLOCK_SIZES, Recipe
from dream_edge_runtime.graph.signature import EIGHT_BITS, SEVEN_BITS
from dream_edge_runtime.inference import onnx_network, self_check
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.inference.self_check import check_products
from dream_edge_runtime.requantize.matrix import dequantize
from support.arithmetic import saturating_product
from support.artifacts import make_artifact
from support.checkpoints import random_weights, write_checkpoint, write_weights
from support.family import FAMILY, write_family_checkpoint

WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512}
RECIPES = {
    **{scheme: Recipe.for_scheme(scheme, layers=2) for scheme in ("fp32", "fp16", "int8", "mixed", "nf4")},
    **{
        f"int4-{size}{'-symmetric' if symmetric else ''}": Recipe.for_scheme(
            "int4", block_size=size, symmetric=symmetric
        )
        for size in BLOCK_SIZES
        for symmetric in (False, True)
    },
}


def make_session(graph: bytes) -> Any:
    options = import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    return import_onnxruntime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])


# --- right kernels ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide")
    write_checkpoint(path, **WIDE)
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_right_kernels_pass(checkpoint: Path, tmp_path: Path, name: str) -> None:
    made = export(Checkpoint.open(checkpoint), tmp_path / "artifact", RECIPES[name])
    for bits in (EIGHT_BITS, SEVEN_BITS):
        check_products(made, "cpu", bits, make_session)


@pytest.mark.parametrize("scheme", ["fp32", "fp16", "int8", "int4", "mixed"])
@pytest.mark.parametrize("name", FAMILY)
def test_right_kernels_pass_in_every_form(tmp_path: Path, name: str, scheme: str) -> None:
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY[name])
    made = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme(scheme, layers=2))
    for bits in (EIGHT_BITS, SEVEN_BITS):
        check_products(made, "cpu", bits, make_session)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels for ARM may sum in fp16, which CUDA's do not")
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4", "mixed", "nf4"])
def test_products_in_fp16_pass(checkpoint: Path, tmp_path: Path, scheme: str) -> None:
    recipe = Recipe.for_scheme(scheme, target="cuda", layers=2)
    made = export(Checkpoint.open(checkpoint), tmp_path / "artifact", recipe)
    check_products(made, "cuda", EIGHT_BITS, make_session)


def zero(weight: torch.Tensor) -> None:
    weight.zero_()


def one_extreme(weight: torch.Tensor) -> None:
    weight.view(-1)[weight.numel() // 3] = 1000 * float(weight.abs().max())


def constant(weight: torch.Tensor) -> None:
    weight.fill_(0.37)


def tiny(weight: torch.Tensor) -> None:
    weight.mul_(1e-30)


def huge(weight: torch.Tensor) -> None:
    weight.mul_(1e37)


def of_all_sizes(weight: torch.Tensor) -> None:
    weight.mul_(10.0 ** torch.linspace(-4, 3, weight.shape[1]))


@pytest.mark.parametrize("scheme", ["fp32", "fp16", "int8", "int4", "mixed", "nf4"])
@pytest.mark.parametrize("change", [zero, one_extreme, constant, tiny, of_all_sizes])
def test_degenerate_weights_pass(tmp_path: Path, scheme: str, change: Callable[[torch.Tensor], None]) -> None:
    made = make_changed(tmp_path, scheme, change)
    for bits in (EIGHT_BITS, SEVEN_BITS):
        check_products(made, "cpu", bits, make_session)


@pytest.mark.parametrize("scheme", ["fp32", "int8", "nf4"])  # the others' scales are fp16, and the export refuses
def test_products_past_the_range_of_floats_pass(tmp_path: Path, scheme: str) -> None:
    check_products(make_changed(tmp_path, scheme, huge), "cpu", EIGHT_BITS, make_session)


def make_changed(directory: Path, scheme: str, change: Callable[[torch.Tensor], None]) -> Artifact:
    """Of a checkpoint all of whose matrices but the embedding are changed."""
    config = write_checkpoint(directory / "checkpoint")
    weights = random_weights(config)
    for name, weight in weights.items():
        if weight.ndim == 2 and "embed" not in name:
            change(weight)
    write_weights(directory / "checkpoint", weights)
    recipe = Recipe.for_scheme(scheme, layers=2)
    return export(Checkpoint.open(directory / "checkpoint"), directory / "artifact", recipe)


# --- wrong kernels ---------------------------------------------------------------------------------------------------

Change = Callable[[NDArray[Any]], NDArray[Any]]


def nibbles_swapped(codes: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(codes >> 4 | codes << 4)


def turned(array: NDArray[Any]) -> NDArray[Any]:
    return np.roll(array, 1, axis=0)


def one_step(codes: NDArray[Any]) -> NDArray[Any]:
    """One code of one output, off by one."""
    changed = codes.copy()
    changed.reshape(-1)[0] ^= 1
    return changed


def one_higher(codes: NDArray[Any]) -> NDArray[Any]:
    return codes + 1


def as_bfloat16(array: NDArray[Any]) -> NDArray[Any]:
    """What kernels for "fast math" make of floats."""
    return np.asarray((array.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))


WRONG: dict[str, tuple[str, str, Change, str]] = {
    "floats of other outputs": ("fp32", "q_proj.weight", turned, "product of 32-bit weights"),
    "floats as bfloat16": ("fp32", "q_proj.weight", as_bfloat16, "product of 32-bit weights"),
    "halves of other outputs": ("fp16", "q_proj.weight", turned, "product of 16-bit weights"),
    "table of floats": ("fp32", "embed_tokens.weight", turned, "look-up of 32-bit weights"),
    "table of codes": ("int8", "embed_tokens.scales", turned, "look-up of 8-bit weights in groups of 128"),
    "integers: scales": ("int8", "q_proj.scales", turned, "product of 8-bit integers"),
    "integers: zero point": ("int8", "activation_zero_point", one_higher, "product of 8-bit integers"),
    "integers: widest input only": ("int8", "down_proj.weight", turned, "product of 8-bit integers"),
    "lm_head": ("int4", "lm_head.scales", turned, "product of 8-bit integers"),
    "4 bits: halves of bytes": ("int4", "q_proj.weight", nibbles_swapped, "product of 4-bit weights in groups of 128"),
    "4 bits: zero points": ("int4", "q_proj.zero_points", nibbles_swapped, "product of 4-bit weights"),
    "4 bits: one zero point": ("int4", "q_proj.zero_points", one_step, "product of 4-bit weights"),
    "4 bits: scales": ("int4", "q_proj.scales", turned, "product of 4-bit weights"),
    "8 bits in groups": ("mixed", "layers.1.mlp.down_proj.weight", turned, "product of 8-bit weights"),
    "NF4: halves of bytes": ("nf4", "q_proj.weight", nibbles_swapped, "product of NF4 weights in groups of 64"),
    "NF4: scales as bfloat16": ("nf4", "q_proj.absmax", as_bfloat16, "product of NF4 weights"),
    "NF4: scales": ("nf4", "q_proj.absmax", turned, "product of NF4 weights"),
}


WRONG_AT_ONE_END: dict[str, tuple[str, str, Change, str]] = {
    "shared: looked up": ("int8", "embed_tokens.weight", turned, "look-up of 8-bit integers"),
    "shared: steps": ("int4", "embed_tokens.scales", turned, "look-up of 8-bit integers"),
    "shared: multiplied": ("int4", "lm_head.weight", turned, "product of 8-bit integers"),
}


@pytest.mark.parametrize("case", [*WRONG, *WRONG_AT_ONE_END])
def test_wrong_kernel_is_found(checkpoint: Path, tmp_path: Path, case: str) -> None:
    """Played by a graph in which it reads other numbers than were stored."""
    scheme, tensor, change, said = (WRONG | WRONG_AT_ONE_END)[case]
    opened = Checkpoint.open(checkpoint)
    if case in WRONG_AT_ONE_END:
        opened = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY["mdlm-Qwen3-0.6B"])
    made = export(opened, tmp_path / "artifact", Recipe.for_scheme(scheme, layers=2))
    changed = []

    def create(graph: bytes) -> Any:
        model = onnx.load_from_string(graph)
        for held in model.graph.initializer:
            if held.name.endswith(tensor):
                array = numpy_helper.to_array(held)
                held.CopyFrom(numpy_helper.from_array(np.asarray(change(array), array.dtype), held.name))
                changed.append(held.name)
        return make_session(model.SerializeToString())

    with pytest.raises(WrongProduct, match=f"the {said}") as found:
        check_products(made, "cpu", EIGHT_BITS, create)
    assert changed
    assert found.value.times > 1


class Altered:
    """A session whose results are changed by a function of all of them."""

    def __init__(self, graph: bytes, change: Callable[[int, NDArray[Any]], None]) -> None:
        self._session, self._change = make_session(graph), change

    def run(self, names: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        results = [np.array(each) for each in self._session.run(names, feeds)]
        for each in results[1:]:  # the first is looked up
            self._change(len(each), each)
        return results


def not_a_number(_: int, product: NDArray[Any]) -> None:
    product[-1, -1] = np.nan


def zero_for_one_row(rows: int, product: NDArray[Any]) -> None:
    if rows == 1:
        product[:] = 0


def wrong_for_many_rows(rows: int, product: NDArray[Any]) -> None:
    if rows > 1:
        product[1] *= -1


@pytest.mark.parametrize("change", [not_a_number, zero_for_one_row, wrong_for_many_rows])
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4", "nf4"])
def test_wrong_results_are_found(
    checkpoint: Path, tmp_path: Path, scheme: str, change: Callable[[int, NDArray[Any]], None]
) -> None:
    made = export(Checkpoint.open(checkpoint), tmp_path / "artifact", Recipe.for_scheme(scheme, layers=2))
    with pytest.raises(WrongProduct, match="the product of"):
        check_products(made, "cpu", EIGHT_BITS, lambda graph: Altered(graph, change))


def test_saturating_kernel_that_the_probe_overlooked_is_found(tmp_path: Path) -> None:
    """What vpmaddubsw makes of large weights; activations of 7 bits are right on it."""
    made = make_changed(tmp_path, "int8", constant)
    probe = next(each for each in self_check._choose_probes(made, "cpu") if each.weights.kind == "row")
    x = self_check._draw_activations(probe.inputs, "float32")[:4]  # of ones, so that a row's scale is 1 / levels
    for levels, zero_point in (EIGHT_BITS, SEVEN_BITS):
        codes = (x * levels + zero_point).astype(np.uint8)
        product = saturating_product(codes, probe.stored["weight"])
        product -= zero_point * probe.stored["weight"].astype(np.int64).sum(axis=0)
        found = (product / levels * probe.stored["scales"]).astype(np.float32)
        assert (probe.measure_error(np.concatenate([x, x[:1]]), np.concatenate([found, found[:1]]), levels) <= 1) == (
            levels == 63
        )


# --- when loading ----------------------------------------------------------------------------------------------------


def test_loading_checks_unless_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, checked = make_artifact(tmp_path, "int8"), []
    monkeypatch.setattr(onnx_network, "check_products", lambda *given: checked.append(given[1:3]))
    OnnxNetwork(made, threads=1)
    assert checked == [("cpu", SEVEN_BITS if self_check.saturates() else EIGHT_BITS)]
    OnnxNetwork(made, threads=1, self_check=False)
    monkeypatch.setenv("DREAM_EDGE_SELF_CHECK", "0")
    OnnxNetwork(made, threads=1)
    assert len(checked) == 1
    monkeypatch.setenv("DREAM_EDGE_SELF_CHECK", "1")
    OnnxNetwork(made, threads=1)
    assert len(checked) == 2


def test_wrong_kernel_stops_the_loading_and_the_remedies_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_artifact(tmp_path, "int4")
    monkeypatch.setattr(self_check, "dequantize", lambda *given: dequantize(*given) * np.float32(1.01))
    with pytest.raises(
        WrongProduct, match=r"another version of ONNX Runtime.*--scheme.*self_check=False \(DREAM_EDGE_SELF_CHECK=0\)"
    ):
        OnnxNetwork(made, threads=1)


def test_old_onnx_runtime_is_told_apart_from_a_damaged_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = make_artifact(tmp_path, "fp32"), import_onnxruntime()

    class Old:
        SessionOptions, __version__ = real.SessionOptions, "1.23.2"

        @staticmethod
        def InferenceSession(*_: object, **__: object) -> Any:  # noqa: N802
            raise RuntimeError("NOT_IMPLEMENTED : Could not find an implementation for QuantizeLinear(23) node")

    for module in (onnx_network, self_check):
        monkeypatch.setattr(module, "import_onnxruntime", lambda: Old)
    with pytest.raises(OnnxRuntimeUnfit, match=r"ONNX Runtime 1\.23\.2 .*QuantizeLinear\(23\).*onnxruntime==1\.31\.1"):
        OnnxNetwork(made, threads=1)
    with pytest.raises(OnnxRuntimeUnfit, match=r"1\.23\.2"):
        self_check.saturates.__wrapped__()
