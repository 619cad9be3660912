"""From a Dream checkpoint to an artifact: read, quantize, write the graph."""
