"""From an artifact to text: numpy, ONNX Runtime and tokenizers, nothing else."""
