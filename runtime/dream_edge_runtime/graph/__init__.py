"""The network as an ONNX graph."""
