"""A comparison as a report that people read: one HTML page, Markdown and JSON."""

from __future__ import annotations

from .card import update_card
from .contents import Advice, Contents, ReportEntry, advise
from .output import Output, check_report, write_report
from .verdict import judge

__all__ = [
    "Advice",
    "Contents",
    "Output",
    "ReportEntry",
    "advise",
    "check_report",
    "judge",
    "update_card",
    "write_report",
]
