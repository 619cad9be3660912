"""Hypothesis without clocks: a fresh checkout builds its table of characters on first use, and machines are shared."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("no_clocks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_clocks")
