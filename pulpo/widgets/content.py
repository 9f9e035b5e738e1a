"""What the panel says of a session, as plain data and HTML, without any widgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..backends.live import Stage, staged
from ..backends.look import closed_at_first, closed_in
from ..backends.render import HINT, Picture, escape
from ..backends.scene import scene
from ..backends.view import View
from ..errors import (
    EditedFileError,
    MissingProgramError,
    Problem,
    PulpoError,
    UnknownNameError,
)
from ..plan import Orchestration
from ..reports import Exported, highlighted
from ..runs import Run, one_line
from ..session import Session

__all__ = [
    "Content",
    "Drawn",
    "Wanted",
    "code_of",
    "detail_html",
    "drawing",
    "exported_html",
    "files_html",
    "look",
    "message",
    "problem_list",
    "problems_html",
    "refused_html",
    "run_drawing",
    "size",
    "static_html",
    "unforeseen",
]

_SIGNS = {"error": "✗", "warning": "!", "note": "i"}


class Wanted(NamedTuple):
    """How a person wants a picture.

    Parameters
    ----------
    kind
        ``"both"``, ``"dataflow"`` or ``"hierarchy"``.
    closed
        The groups that are one node each; None for as many as make it readable.
    """

    kind: str = "both"
    direction: str = "down"
    closed: list[str] | None = None


class Drawn(NamedTuple):
    """A picture for the page: its SVG, text and scene; and the view that it is of, if it is one."""

    picture: dict[str, Any]
    view: View | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All that a panel shows of a session at one moment, besides pictures.

    Parameters
    ----------
    version
        The registry's version that was looked at.
    summary
        One line: how many operations, flows and problems.
    flows
        The names of the flows, the outermost first.
    flow
        The flow whose code is shown.
    code, text
        The code as HTML, and what of it is copied.
    problems
        What ``%pulpo check`` finds.
    links
        Where in the page the cells are that problems stand in.
    trouble
        Why there is nothing else to show, when something unforeseen went wrong.
    """

    version: int = 0
    summary: str = ""
    flows: tuple[str, ...] = ()
    flow: str = ""
    code: str = ""
    text: str = ""
    problems: tuple[Problem, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


def look(session: Session, flow: str = "") -> Content:
    """Return what there is to show, with the code of ``flow`` if there is such a flow; never raise.

    A panel is redrawn because somebody ran a cell, and that cell must not fail of it.
    """
    version = session.registry.version
    try:
        return _look(session, flow, version)
    except Exception as error:
        return Content(version=version, summary="something went wrong", trouble=unforeseen(error))


def _look(session: Session, flow: str, version: int) -> Content:
    report = session.check()
    plan = report.orchestration
    flows = tuple(each.name for each in sorted(plan.flows, key=lambda f: f.name != "main_flow"))
    chosen = flow if flow in flows else next(iter(flows), "")
    code, text = code_of(session, chosen) if chosen else (message(str(report)), "")
    anchors = session.links(plan) if report.problems else {}
    return Content(
        version=version,
        summary=_summary(plan, report.problems),
        flows=flows,
        flow=chosen,
        code=code,
        text=text,
        problems=report.problems,
        links={node.cell: anchors.get(node.name, "") for node in plan.operations},
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


def drawing(session: Session, wanted: Wanted) -> Drawn:
    """Return the picture of a session; never raise."""
    try:
        plan = session.plan()
        if not plan.operations:
            return _words_only(str(session.compile()))
        closed = closed_at_first(plan) if wanted.closed is None else wanted.closed
        kind, direction = wanted.kind, wanted.direction
        return _drawn(session.graph(kind, closed=closed, direction=direction))
    except Exception as error:
        return _words_only(unforeseen(error))


def run_drawing(run: Run, wanted: Wanted) -> Drawn:
    """Return the picture of a run, whose nodes have a line for their states; never raise."""
    try:
        states = Stage.states(run.operations)
        picture = run.picture(states, wanted.kind, closed=(), direction=wanted.direction)
        whole = picture.view
        closed = closed_in(whole) if wanted.closed is None else wanted.closed
        if closed:
            picture = run.picture(states, wanted.kind, closed=closed, direction=wanted.direction)
        return _drawn(picture, live=True)
    except Exception as error:
        return _words_only(unforeseen(error))


def _drawn(picture: Picture, *, live: bool = False) -> Drawn:
    # Its operations are chosen by a click; the link to a cell stands with what is told then.
    picture = replace(picture, links={})
    svg, text = "", picture.text
    try:
        svg = staged(picture.inline) if live else picture.inline
    except MissingProgramError:
        text = f"{text}\n\n{HINT}"
    except PulpoError as error:
        text = f"{text}\n\n{error}"
    made = scene(picture.view, picture.kind, {} if live else picture.states)
    told = {"svg": svg, "text": "" if svg else text, "alt": picture.alt, **made}
    return Drawn(told, picture.view)


def _words_only(text: str) -> Drawn:
    return Drawn({"svg": "", "text": text, "alt": text, "nodes": [], "edges": []})


def code_of(session: Session, flow: str) -> tuple[str, str]:
    """Return the generated code of a flow as HTML and as text, or what blocks it."""
    try:
        text = session.preview(flow)[flow]
        return highlighted(text), text
    except Exception as error:
        return message(unforeseen(error), "bad"), ""


def detail_html(session: Session, name: str) -> str:
    """Return what there is to know of an operation: its ports, its cell and its source."""
    try:
        shown = session.show(name)
        anchor = session.links(session.plan()).get(name, "")
    except UnknownNameError:  # a model that nobody gives, or what was removed since a run
        return ""
    except Exception as error:
        return message(unforeseen(error), "bad")
    title = shown.title.removeprefix(f"{name}: ")
    lines = [f"<div><code>{escape(title)}</code></div>"]
    for place, line in enumerate(shown.lines):
        said = escape(line)
        if place == 0 and anchor:
            said += f' · <a href="{escape(anchor)}">go to the cell</a>'
        lines.append(f"<div>{said}</div>")
    return "".join(lines) + highlighted(shown.source)


# --- HTML ---------------------------------------------------------------------------------------


def problems_html(content: Content) -> str:
    """Return the problems as a list, each with its fix."""
    if content.trouble:
        return message(content.trouble, "bad")
    if not content.flows:
        return message("No operations yet, so no problems.")
    if not content.problems:
        return message("No problems.", "good")
    return problem_list(content.problems, content.links)


def problem_list(problems: Iterable[Problem], links: Mapping[str, str]) -> str:
    """Return problems as a list, each with its fix and, where there is a link, its cell."""
    listed = "".join(_problem(problem, links) for problem in problems)
    return f'<ul class="pulpo-problems">{listed}</ul>'


def _problem(problem: Problem, links: Mapping[str, str]) -> str:
    where = f' <span class="pulpo-where">{escape(problem.cell)}</span>' if problem.cell else ""
    if anchor := links.get(problem.cell, ""):
        where = f' <a class="pulpo-where" href="{escape(anchor)}">{escape(problem.cell)}</a>'
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
    said = [f"Removed {root}/{name}, which this export has no more." for name in exported.removed]
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
    words = unforeseen(error)
    if isinstance(error, EditedFileError):
        words = f"{words} Here, the box above does what --force does."
    elif "--freeze" in words:
        words = f"{words} Here, 'Freeze variables' does what --freeze does."
    if not words.lower().startswith("not exported"):
        words = f"Not exported: {words}"
    return message(words, "bad")


def static_html(content: Content, picture: Picture | None = None) -> str:
    """Return what stands for the panel where no widget can live: the picture and the problems."""
    lines = [f"<p><b>Pulpo</b> {escape(content.summary)}</p>"]
    if picture is not None:
        bundle = picture._repr_mimebundle_()
        lines.append(bundle.get("text/html") or f"<pre>{escape(bundle['text/plain'])}</pre>")
    if content.problems or content.trouble:
        lines.append(problems_html(content))
    lines.append(
        "<p><small>This is a still picture. Run the cell in Jupyter to get the panel.</small></p>"
    )
    return f'<div class="pulpo-static">{"".join(lines)}</div>'


def message(text: str, kind: str = "") -> str:
    """Return a line of text as HTML; ``kind`` is ``"good"``, ``"bad"`` or nothing."""
    sign = {"good": "✓ ", "bad": "✗ "}.get(kind, "")
    style = f" pulpo-{kind}" if kind else ""
    return f'<div class="pulpo-message{style}">{sign}{escape(text)}</div>'


def unforeseen(error: BaseException) -> str:
    """Return an error as one line; what is not ours is unforeseen, and says its type."""
    if isinstance(error, PulpoError):
        return str(error)
    return f"unexpected {one_line(error).rstrip('.')}. Try again, and report it if it stays."


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
