"""The denoising pass as an ONNX graph, authored operator by operator."""

from .model import build_model, weight_parameters

__all__ = ["build_model", "weight_parameters"]
