"""Checkpoints in a form that is not read: told what they are, and what to do instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dream_edge_runtime.files.json import describe, read_json_object
from dream_edge_runtime.format.manifest import MANIFEST

from ..errors import PickleCheckpoint, UnsupportedCheckpoint
from .config import read_object
from .tensor_file import TensorEntry

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_STATE_OF_TRAINING = r"optimizer|scheduler|scaler|rng_state|trainer_state|training_args"
_PICKLED = re.compile(rf"(?!{_STATE_OF_TRAINING}).*\.(bin|pt|pth|ckpt|pkl|pickle)")
_QUANTIZED = "its weights are quantized already"
_ORIGINAL = "Export the checkpoint that it was made from, or one that was saved after dequantizing it."
_MERGE = "Merge it into its base (peft's merge_and_unload), save that, and export it."
_UNWRAP = "Save the model itself with save_pretrained, not what wraps it or a part of it, and export that."
_FORMS = {  # by the names of tensors
    r"(.*\.)?(lora_\w+|base_layer)\..*": ("its weights hold an adapter (LoRA) that is not merged", _MERGE),
    r".*\.(qweight|qzeros|g_idx)": (f"{_QUANTIZED} (GPTQ or AWQ)", _ORIGINAL),
    r".*\.(SCB|quant_state\.\w+)": (f"{_QUANTIZED} by bitsandbytes, and not as NF4, which is read", _ORIGINAL),
    r".*\.(weight_packed|weight_scale\w*|input_scale)": (f"{_QUANTIZED} (fp8, or compressed-tensors)", _ORIGINAL),
    r".*embed_tokens\.weight": ("its tensors are named otherwise than those of a DreamModel", _UNWRAP),
}


def check_directory(path: Path) -> None:
    """Look for weights of other kinds where there are no safetensors.

    Raises: UnsupportedCheckpoint; PickleCheckpoint.
    """
    names = sorted(file.name for file in path.iterdir()) if path.is_dir() else [path.name]
    if {SINGLE_FILE, INDEX_FILE, MANIFEST} & {*names}:  # an artifact is told what it is where config.json is missed
        return
    if "adapter_config.json" in names:
        base = describe(read_json_object(path / "adapter_config.json").get("base_model_name_or_path"))
        raise UnsupportedCheckpoint(path, f"this is an adapter (LoRA) of {base}, not a checkpoint", _MERGE)
    for name in names:
        if name.endswith(".gguf"):
            raise UnsupportedCheckpoint(path, f"{_QUANTIZED}, for llama.cpp ({name})", _ORIGINAL)
        if _PICKLED.fullmatch(name):
            raise PickleCheckpoint(path / name if path.is_dir() else path)


def check_form(path: Path, found: Mapping[str, TensorEntry], unexpected: Iterable[str]) -> None:
    """Tell a known form from what is just wrong, once tensors do not fit. Raises UnsupportedCheckpoint."""
    for pattern, (what, remedy) in _FORMS.items():
        if any(re.fullmatch(pattern, name) for name in unexpected):
            raise UnsupportedCheckpoint(path, what, remedy)
    settings = read_object(path / "config.json").get("quantization_config")
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    method = method or next((entry.dtype for entry in found.values() if entry.dtype.startswith("F8")), None)
    if method:
        raise UnsupportedCheckpoint(path, f"{_QUANTIZED} ({describe(method)})", _ORIGINAL)
