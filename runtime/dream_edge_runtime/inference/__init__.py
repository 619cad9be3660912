"""Passes through the network: ONNX Runtime, devices and memory."""
