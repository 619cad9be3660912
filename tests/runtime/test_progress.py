"""The report of long work."""

from dream_edge_runtime.progress import Meter, Progress, silent


def test_a_meter_reports_its_start_and_each_step() -> None:
    seen: list[Progress] = []
    meter = Meter(seen.append, "downloading", 10, "bytes", done=2)
    meter.advance(3, "a.bin")
    meter.reach(10)
    assert seen == [
        Progress("downloading", 2, 10, "bytes"),
        Progress("downloading", 5, 10, "bytes", "a.bin"),
        Progress("downloading", 10, 10, "bytes"),
    ]


def test_share_of_an_unknown_whole_is_zero() -> None:
    assert Progress("reading", 7, 0, "lines").share == 0
    assert Progress("reading", 5, 10, "lines").share == 0.5
    silent(Progress("reading", 7, 0, "lines"))
