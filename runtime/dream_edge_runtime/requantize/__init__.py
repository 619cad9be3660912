"""An int8 copy of a 4-bit artifact, for speed on CPUs."""
