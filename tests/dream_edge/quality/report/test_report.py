"""The report: its verdicts, and a page that is whole, safe and complete whatever data there is."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dream_edge.quality.errors import ReportForeign
from dream_edge.quality.measure.figures import Figures
from dream_edge.quality.report.contents import Advice, Contents, ReportEntry, advise
from dream_edge.quality.report.markdown import BEGIN, insert_section, plain, render_markdown, update_card
from dream_edge.quality.report.output import FILES, write_report
from dream_edge.quality.report.page import mark_differences, render_page
from dream_edge.quality.report.pictures import Picture, draw_pictures, frontier
from dream_edge.quality.report.verdict import judge
from dream_edge.quality.sensitivity.effects import HeatMap
from dream_edge.quality.trajectory.agreement import SampleTexts
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import MissingExtra, NotWritable
from support.comparisons import make_comparison, make_entry, make_tasks, make_trajectory
from support.systems import make_link

HOSTILE = "<script>alert(1)</script>\"'&$x_{1}$`|"
NEEDS_NO_END = {"meta", "link", "br", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags are closed in their order, and keeps what was seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in NEEDS_NO_END:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.attributes if found == name]


def contents(*entries: ReportEntry, reference: str = "dream", **parts: object) -> Contents:
    return Contents(reference=reference, producer="dream-edge 0", entries=entries or (make_entry(),), **parts)  # type: ignore[arg-type]


def everything(name: str = "int8", text: str = "a text") -> Contents:
    sample = SampleTexts(text, f"The sky is blue. {text}", f"The sky is grey. {text}", 3)
    noise = make_comparison(kl=0.0001)
    comparison = make_comparison(
        name,
        noise=Figures(noise.overall, noise.bins),
        trajectories=(make_trajectory(sample), make_trajectory(algorithm="origin")),
        tasks=make_tasks(0.9, 0.85, 0.01),
    )
    return contents(
        make_entry(comparison),
        make_entry(make_comparison("other", 0.02), bits=4.0),
        reference=name,
        heat_maps=(HeatMap(format="int4-128", columns=("q", "layer"), rows=[[1e-5, None], [2e-4, 3e-4]]),),
        advice=Advice(memory=8 << 30, needed={name: 1 << 30}, chosen=name),
    )


@pytest.fixture(scope="module")
def hostile() -> tuple[Contents, list[Picture]]:
    """A report with every part, full of a stranger's names and texts, and its pictures."""
    made = everything(HOSTILE, HOSTILE)
    return made, draw_pictures(made)


@pytest.mark.parametrize(
    ("kl", "same_top", "grade"),
    [
        (0.00049, 1.0, "none"),
        (0.0006, 1.0, "slight"),
        (0.0001, 0.98, "slight"),  # both must hold
        (0.0049, 0.98, "slight"),
        (0.006, 0.98, "small"),
        (0.029, 0.94, "small"),
        (0.04, 0.94, "noticeable"),
        (0.01, 0.9, "noticeable"),
        (0.2, 0.9, "large"),
        (0.01, 0.5, "large"),
    ],
)
def test_a_verdict_goes_by_kl_and_by_agreement(kl: float, same_top: float, grade: str) -> None:
    found = judge(make_comparison(kl=kl, same_top=same_top))
    assert found.grade.name == grade
    assert f"{100 * same_top:.1f}" in found.first


def test_what_is_within_twice_the_noise_cannot_be_told_apart() -> None:
    floor = make_comparison(kl=0.01)
    noise = Figures(floor.overall, floor.bins)
    below = judge(make_comparison(kl=0.02, same_top=0.9, noise=noise))
    assert below.grade.name == "none"
    assert "cannot be told apart" in below.first
    above = judge(make_comparison(kl=0.021, same_top=0.9, noise=noise))
    assert above.grade.name == "noticeable"


def test_tasks_decide_what_a_verdict_says_of_use() -> None:
    by_chance = judge(make_comparison(tasks=make_tasks(0.9, 0.89, 0.4)))
    assert by_chance.second == (
        "It solves 89.0% of 200 test cases where the original solves 90.0%, a difference that chance explains."
    )
    worse = judge(make_comparison(tasks=make_tasks(0.9, 0.85, 0.01)))
    assert worse.second == "It solves 85.0% of 200 test cases where the original solves 90.0%: 5.0 points less."


def test_a_verdict_is_two_sentences() -> None:
    for kl in (0.0001, 0.001, 0.01, 0.1, 1.0):
        found = judge(make_comparison("a", kl))
        assert re.findall(r"\.(?: |$)", found.text) == [". ", "."]


def test_a_page_with_everything_is_well_formed_and_asks_the_network_for_nothing(
    hostile: tuple[Contents, list[Picture]],
) -> None:
    text = render_page(*hostile)
    read = Page(text)
    assert "://" not in text
    assert "script" not in read.tags
    assert not {"src", "href"} & {name for name, value in read.attributes if not value.startswith("#")}
    assert "url(" not in re.sub(r"url\(#", "", text)
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    assert {target.removeprefix("#") for target in read.values("href")} <= set(ids)
    assert read.tags.count("svg") == 5  # size, ratio, histogram, two of flips
    for label in read.values("aria-labelledby"):
        assert set(label.split()) <= set(ids)
    for expected in ("Size against loss", "Tasks", "Texts side by side", "Which matrices matter", f"take {HOSTILE}"):
        assert expected in read.text
    assert 'lang="en"' in text
    assert "prefers-color-scheme: dark" in text


def test_colours_are_those_of_the_page(hostile: tuple[Contents, list[Picture]]) -> None:
    for picture in hostile[1]:
        assert not re.findall(r"#[0-9a-f]{6}\b", picture.svg.replace("#000000", ""))
        assert "var(--ink)" in picture.svg


def test_names_and_texts_of_strangers_stay_text(hostile: tuple[Contents, list[Picture]]) -> None:
    made, drawn = hostile
    text = render_page(made, drawn)
    read = Page(text)
    assert "script" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert HOSTILE in read.text
    assert "<script" not in render_markdown(made, drawn).replace("\\<", "")
    assert plain(HOSTILE) in render_markdown(made, drawn)
    for each in drawn:
        assert "<script" not in each.svg


@pytest.mark.parametrize("name", ["$", "_hidden", "a" * 500, "\x00\x1b[31m", "日本語"])
def test_any_name_can_be_drawn(name: str) -> None:
    made = contents(make_entry(make_comparison(name)), make_entry(make_comparison("b"), bits=4.0))
    assert "legend" in "".join(each.svg for each in draw_pictures(made))


def test_only_what_was_measured_is_on_the_page() -> None:
    made = contents()
    drawn = draw_pictures(made)
    assert [each.name for each in drawn] == ["ratio", "histogram"]
    text = Page(render_page(made, drawn)).text
    for absent in ("Tasks", "Texts side by side", "Which matrices matter", "On the way", "memory:"):
        assert absent not in text
    assert "| task |" not in render_markdown(made, drawn)


def test_an_artifact_that_loses_nothing_can_be_drawn() -> None:
    made = contents(make_entry(make_comparison(kl=0.0)), make_entry(make_comparison("b", kl=0.0), bits=4.0))
    assert len(draw_pictures(made)) == 3


def test_differences_between_texts_are_marked_word_by_word() -> None:
    left, right = mark_differences("The sky is blue.", "The sky was very blue.")
    assert [each.text for each in left if each.differs] == ["is"]
    assert "".join(each.text for each in right) == "The sky was very blue."
    assert "".join(each.text for each in right if each.differs) == "was very"
    assert mark_differences("same", "same")[0][0].differs is False
    assert mark_differences("", "") == ([], [])


def test_the_frontier_joins_those_that_nobody_beats() -> None:
    assert frontier([(8, 0.1), (4, 0.5), (5, 0.6), (6, 0.2), (4, 0.9)]) == [(4, 0.5), (6, 0.2), (8, 0.1)]


def test_a_report_is_written_and_replaced(tmp_path: Path) -> None:
    goal = tmp_path / "a report"
    assert write_report(goal, contents()) == goal / "report.html"
    two = (make_entry(), make_entry(make_comparison("other", 0.02), bits=4.0))
    write_report(goal, contents(*two, advice=Advice(memory=1000, needed={"int8": 900}, chosen="int8")))
    assert {each.name for each in goal.iterdir()} == {*FILES, "pictures"}
    found = json.loads((goal / "report.json").read_text("utf-8"))
    assert [each["artifact"] for each in found["artifacts"]] == ["int8", "other"]
    assert found["artifacts"][0]["verdict"]["grade"] == "slight"
    assert found["advice"]["chosen"] == "int8"
    for name in re.findall(r"\]\((pictures/[^)]+)\)", (goal / "report.md").read_text("utf-8")):
        drawing = (goal / name).read_text("utf-8")
        Page(drawing)
        assert "var(" not in drawing
    assert [each.name for each in tmp_path.iterdir()] == ["a report"]


def test_a_directory_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "report.html").write_text("mine", "utf-8")
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "mine" / "pictures" / "mine.svg").write_text("mine", "utf-8")
    with pytest.raises(ReportForeign):
        write_report(tmp_path / "mine", contents())
    assert (tmp_path / "mine" / "pictures" / "mine.svg").exists()
    with pytest.raises(ReportForeign, match="something else"):
        write_report(tmp_path / "letters", contents())
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(ReportForeign):
        write_report(tmp_path / "file", contents())
    assert (tmp_path / "letters" / "report.html").read_text("utf-8") == "mine"


def test_a_failure_half_way_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = tmp_path / "report"
    write_report(goal, contents())
    before = (goal / "report.html").read_bytes()
    write = Path.write_text

    def full(self: Path, *given: object, **options: object) -> int:
        if self.suffix == ".json":
            raise OSError(28, "No space left on device")
        return write(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NotWritable, match="No space"):
        write_report(goal, contents(make_entry(make_comparison("another"))))
    assert (goal / "report.html").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["report"]


def test_a_report_fills_the_directory_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount point, or the working directory: no other can take its place."""
    (tmp_path / "lost+found").mkdir()
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    for _ in range(2):
        write_report(Path(), contents())
        assert tmp_path.stat().st_ino == before
        assert {each.name for each in tmp_path.iterdir()} == {*FILES, "pictures", "lost+found"}


def test_a_report_that_was_killed_half_way_is_written_again(tmp_path: Path) -> None:
    write_report(tmp_path, contents())
    (tmp_path / "report.json").unlink()
    (tmp_path / ".report.partial").mkdir()
    write_report(tmp_path, contents())
    assert {each.name for each in tmp_path.iterdir()} == {*FILES, "pictures"}


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_a_report_without_its_libraries_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"dream-edge\[report\]"):
        write_report(tmp_path / "report", contents())
    assert not any(tmp_path.iterdir())


def test_a_card_keeps_what_people_wrote_and_one_summary(tmp_path: Path, random_artifact: Path) -> None:
    artifact = replace(Artifact.open(random_artifact), path=tmp_path)
    card = tmp_path / "README.md"
    card.write_text("# Mine\n\nWords.\n", "utf-8")
    update_card(artifact, make_entry(make_comparison(kl=0.001)), "dream")
    card.write_text(card.read_text("utf-8") + "\nMore words.\n", "utf-8")
    update_card(artifact, make_entry(make_comparison(kl=0.02)), r"dream\1 <b>")
    text = card.read_text("utf-8")
    assert text.startswith("# Mine\n\nWords.\n")
    assert text.endswith("\nMore words.\n")
    assert text.count(BEGIN) == 1
    assert "0.02000" in text
    assert "0.00100" not in text
    assert r"dream\\1 \<b\>" in text
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]


def test_a_card_that_is_a_link_is_left_alone(tmp_path: Path, random_artifact: Path) -> None:
    (tmp_path / "blob").write_text("shared", "utf-8")
    make_link(tmp_path / "README.md", tmp_path / "blob")
    with pytest.raises(NotWritable, match="link"):
        update_card(replace(Artifact.open(random_artifact), path=tmp_path), make_entry(), "dream")
    assert (tmp_path / "blob").read_text("utf-8") == "shared"


def test_an_empty_card_gets_the_summary_alone() -> None:
    assert insert_section("", "words").startswith(BEGIN)


def test_the_best_that_fits_is_recommended(random_artifact: Path) -> None:
    artifact = Artifact.open(random_artifact)
    good, bad = (ReportEntry.of(artifact, make_comparison(*each)) for each in (("good", 0.001), ("bad", 0.1)))
    found = advise([bad, good], 1 << 40)
    assert (found.chosen, set(found.needed)) == ("good", {"good", "bad"})
    assert advise([good], 1000).chosen is None
