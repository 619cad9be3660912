"""The network in PyTorch, whole or layer by layer."""
