"""Write the one-operator graph with which the runtime asks a processor whether its integer products saturate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

OUT = Path(__file__).parents[1] / "runtime/dream_edge_runtime/inference/saturation_probe.onnx"


def build_probe() -> bytes:
    """`activations` u8 [rows, 64], zero point 128, times int8 weights [64, 16], all 127 (MatMulIntegerToFloat)."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21, "com.microsoft": 1}, name="saturation_probe")
    builder = GraphBuilder(graph)
    activations = builder.input("activations", ir.DataType.UINT8, ["rows", 64])
    product = builder.op.MatMulIntegerToFloat(
        activations,
        builder.initializer(ir.tensor(np.full((64, 16), 127, np.int8)), "weight"),
        1.0,
        1.0,
        builder.initializer(ir.tensor(np.uint8(128)), "zero_point"),
        _domain="com.microsoft",
        _version=1,
    )
    product.dtype, product.shape = ir.DataType.FLOAT, ir.Shape(["rows", 16])
    builder.add_output(product, "product")
    data: bytes = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString(deterministic=True)
    return data


if __name__ == "__main__":
    OUT.write_bytes(build_probe())
