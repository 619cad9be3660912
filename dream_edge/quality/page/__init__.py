"""A comparison as a report that people read: one HTML page, Markdown and JSON."""

from __future__ import annotations

from .contents import Advice, Contents, Entry, HeatMap
from .directory import write_report
from .verdict import verdict

__all__ = ["Advice", "Contents", "Entry", "HeatMap", "verdict", "write_report"]
