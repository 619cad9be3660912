"""One thread for each process, since a second only waits on networks as small as these; Hypothesis without clocks."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy, PyTorch and the runtime read it, and for the processes of tests
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from hypothesis import HealthCheck, settings

# Without clocks: a fresh checkout builds its table of characters on first use, and machines are shared.
settings.register_profile("no_clocks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_clocks")
