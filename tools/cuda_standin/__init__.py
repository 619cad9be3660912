"""Libraries in the place of CUDA's, with which ONNX Runtime for GPUs runs where there is none."""
