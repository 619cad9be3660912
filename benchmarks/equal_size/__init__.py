"""The parts of benchmarks/quality_peers.py."""
