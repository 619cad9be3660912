"""A comparison as a report that people read: one HTML page, Markdown and JSON."""

from __future__ import annotations

from .advice import advise, needed_memory
from .card import update_card
from .contents import Advice, Contents, Entry, HeatMap, heat_maps
from .directory import check_report, write_report
from .verdict import verdict

__all__ = [
    "Advice",
    "Contents",
    "Entry",
    "HeatMap",
    "advise",
    "check_report",
    "heat_maps",
    "needed_memory",
    "update_card",
    "verdict",
    "write_report",
]
