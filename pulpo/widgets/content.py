"""What the panel says of a session, as plain data and HTML, without any widgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypedDict

from ..backends.render import HINT, Picture, escape
from ..errors import EditedFileError, MissingProgramError, Problem, PulpoError
from ..plan import Orchestration
from ..reports import Exported, highlighted
from ..session import Session

__all__ = [
    "VIEWS",
    "Content",
    "Drawing",
    "code_of",
    "exported_html",
    "files_html",
    "look",
    "message",
    "picture_html",
    "problems_html",
    "refused_html",
    "size",
    "static_html",
]

#: The views of the picture, as the person chooses among them.
VIEWS = {"dataflow": "Dataflow", "hierarchy": "Hierarchy", "both": "Both"}
_SIGNS = {"error": "✗", "warning": "!", "note": "i"}


class Drawing(TypedDict):
    """One view for the page: the SVG, empty where it cannot be drawn, and its words."""

    svg: str
    text: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All that a panel shows of a session at one moment.

    Parameters
    ----------
    version
        The registry's version that was looked at.
    summary
        One line: how many operations, flows and problems.
    drawings
        The pictures, by view.
    flows
        The names of the flows, the outermost first.
    flow, code
        The flow whose code is shown, and the code as HTML.
    problems
        What ``%pulpo check`` finds.
    trouble
        Why there is nothing else to show, when something unforeseen went wrong.
    """

    version: int = 0
    summary: str = ""
    drawings: dict[str, Drawing] = field(default_factory=dict)
    flows: tuple[str, ...] = ()
    flow: str = ""
    code: str = ""
    problems: tuple[Problem, ...] = ()
    trouble: str = ""


def look(session: Session, flow: str = "") -> Content:
    """Return what there is to show, with the code of ``flow`` if there is such a flow; never raise.

    A panel is redrawn because somebody ran a cell, and that cell must not fail of it.
    """
    version = session.registry.version
    try:
        return _look(session, flow, version)
    except Exception as error:
        return Content(version=version, summary="something went wrong", trouble=_words(error))


def _look(session: Session, flow: str, version: int) -> Content:
    report = session.check()
    plan = report.orchestration
    flows = tuple(each.name for each in sorted(plan.flows, key=lambda f: f.name != "main_flow"))
    chosen = flow if flow in flows else next(iter(flows), "")
    empty = "" if plan.operations else str(report)
    return Content(
        version=version,
        summary=_summary(plan, report.problems),
        drawings={view: _drawing(session, view, empty) for view in VIEWS},
        flows=flows,
        flow=chosen,
        code=code_of(session, chosen) if chosen else message(empty),
        problems=report.problems,
    )


def _summary(plan: Orchestration, problems: Iterable[Problem]) -> str:
    severities = [problem.severity for problem in problems]
    counts = [_count(len(plan.operations), "operation"), _count(len(plan.flows), "flow")]
    found = [
        _count(severities.count(severity), severity)
        for severity in ("error", "warning", "note")
        if severity in severities
    ]
    return " · ".join([*counts, *(found or ["no problems"])])


def _drawing(session: Session, view: str, empty: str) -> Drawing:
    if empty:
        return Drawing(svg="", text=empty, alt=empty)
    picture = session.graph(view)
    svg, text = "", picture.text
    try:
        svg = picture.inline
    except MissingProgramError:
        text = f"{text}\n\n{HINT}"
    except PulpoError as error:
        text = f"{text}\n\n{error}"
    return Drawing(svg=svg, text=text, alt=picture.alt)


def code_of(session: Session, flow: str) -> str:
    """Return the generated code of a flow as HTML, or what blocks it."""
    try:
        return highlighted(session.preview(flow)[flow])
    except Exception as error:
        return message(_words(error), "bad")


# --- HTML ---------------------------------------------------------------------------------------


def problems_html(content: Content) -> str:
    """Return the problems as a list, each with its fix."""
    if content.trouble:
        return message(content.trouble, "bad")
    if not content.flows:
        return message("No operations yet, so no problems.")
    if not content.problems:
        return message("No problems.", "good")
    return f'<ul class="pulpo-problems">{"".join(map(_problem, content.problems))}</ul>'


def _problem(problem: Problem) -> str:
    where = f' <span class="pulpo-where">{escape(problem.cell)}</span>' if problem.cell else ""
    fix = f'<div class="pulpo-fix">{escape(problem.fix)}</div>' if problem.fix else ""
    return (
        f'<li class="pulpo-{problem.severity}"><b>{_SIGNS[problem.severity]} {problem.severity}</b>'
        f"{where}<div>{escape(problem.message)}</div>{fix}</li>"
    )


def exported_html(exported: Exported, folder: str) -> str:
    """Return in one line what was exported; ``folder`` is what the person calls it."""
    total = size(sum(number for _, number in exported.files))
    flows, files = _count(len(exported.flows), "flow"), _count(len(exported.files), "file")
    return message(f"{flows} exported to {folder}: {files}, {total}", "good")


def files_html(exported: Exported) -> str:
    """Return the files that were written, with their sizes, and what else there is to say."""
    root = exported.shown_as
    rows = "".join(
        f"<tr><td><code>{escape(f'{root}/{name}')}</code></td><td>{size(number)}</td></tr>"
        for name, number in exported.files
    )
    said = [f"Removed {root}/{name}, whose flow is gone." for name in exported.removed]
    said += [f"Kept your edited file as {root}/{name}." for name in exported.backed_up]
    said += [f"Warning: {warning}" for warning in exported.warnings]
    usage = f"<p>Run it anywhere: <code>{escape(exported.usage)}</code></p>"
    return (
        f"{''.join(map(message, said))}"
        '<table class="pulpo-files"><thead><tr><th scope="col">File</th><th scope="col">Size</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>{usage if exported.usage else ''}"
    )


def refused_html(error: Exception) -> str:
    """Return why nothing was exported, and what to do about it."""
    words = _words(error)
    if isinstance(error, EditedFileError):
        words = f"{words} Here, the box above does what --force does."
    if not words.lower().startswith("not exported"):
        words = f"Not exported: {words}"
    return message(words, "bad")


def static_html(picture: Callable[[], str], content: Content) -> str:
    """Return what stands for the panel where no widget can live: the picture and the problems."""
    try:
        drawn = picture() if content.flows else ""
    except Exception as error:  # as in `look`
        drawn = message(_words(error), "bad")
    lines = [f"<p><b>Pulpo</b> {escape(content.summary)}</p>", drawn]
    if content.problems or content.trouble:
        lines.append(problems_html(content))
    lines.append(
        "<p><small>This is a still picture. Run the cell in Jupyter to get the panel.</small></p>"
    )
    return f'<div class="pulpo-static">{"".join(lines)}</div>'


def picture_html(picture: Picture) -> str:
    """Return a picture's HTML, or its text where it cannot be drawn."""
    bundle = picture._repr_mimebundle_()
    return bundle.get("text/html") or f"<pre>{escape(bundle['text/plain'])}</pre>"


def message(text: str, kind: str = "") -> str:
    """Return a line of text as HTML; ``kind`` is ``"good"``, ``"bad"`` or nothing."""
    sign = {"good": "✓ ", "bad": "✗ "}.get(kind, "")
    style = f" pulpo-{kind}" if kind else ""
    return f'<div class="pulpo-message{style}">{sign}{escape(text)}</div>'


def _words(error: Exception) -> str:
    """Return an error as one line; what is not ours is unforeseen, and says its type."""
    if isinstance(error, PulpoError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}. Try again, and report it if it stays."


def size(number: int) -> str:
    """Return a number of bytes for people, in powers of 1000: ``"12.3 kB"``."""
    value = float(number)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{number} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
