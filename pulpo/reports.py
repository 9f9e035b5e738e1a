"""What the session answers, each as plain text and as HTML; equal sessions give equal text."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import SEVERITIES, BlockedFlowError, CompileError, Problem, Severity
from .plan import FlowDefinition, Orchestration, Parameter

if TYPE_CHECKING:
    from .backends.document import PlanDocument

__all__ = [
    "Answer",
    "Change",
    "Checked",
    "Declared",
    "Diff",
    "Exported",
    "FileChange",
    "Listing",
    "Preview",
    "Report",
    "SourceView",
]


class Answer:
    """Shows itself as text, and as HTML where a notebook can show that."""

    __slots__ = ()

    def __str__(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<pre class="pulpo-text" style="margin:0;padding:0">{_escape(str(self))}</pre>'


def _escape(text: object) -> str:
    """The one place where text becomes HTML."""
    return html.escape(str(text), quote=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Declared(Answer):
    """One line that answers a cell."""

    message: str
    operation: Any = None
    replaced: str = ""
    renamed_from: str = ""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report(Answer):
    """What flows come out, what is wrong and how to mend it."""

    orchestration: Orchestration
    problems: tuple[Problem, ...]
    flows: bool = True

    @property
    def is_valid(self) -> bool:
        """True when no problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    def raise_if_blocked(self) -> None:
        """Raise when an error blocks a flow.

        Raises
        ------
        BlockedFlowError
            With the problems.
        """
        blocked = [flow.name for flow in self.orchestration.flows if flow.blocked]
        if blocked:
            errors = tuple(p for p in self.problems if p.severity == "error")
            first = f"{errors[0].message} {errors[0].fix}".strip() if errors else ""
            raise BlockedFlowError(f"{', '.join(blocked)} cannot be made: {first}", problems=errors)

    def document(self) -> PlanDocument:
        """Return the plan as a document with a schema; its ``text()`` is JSON."""
        from .backends.document import describe

        return describe(replace(self.orchestration, problems=self.problems))

    def __str__(self) -> str:
        plan = self.orchestration
        lines = []
        if self.flows:
            flows = _count(len(plan.flows), "flow")
            lines = [f"{flows} from {_count(len(plan.operations), 'operation')}"]
            lines += [line for flow in _outermost_first(plan) for line in _flow_lines(plan, flow)]
        if not plan.operations:
            lines = ["No operations yet: write '%%operation NAME' above a cell with a function."]
        lines += [str(problem) for problem in self.problems]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Checked(Report):
    """The problems of a session, by severity, each with where it is and what to do about it."""

    flows: bool = False

    def raise_if_invalid(self) -> None:
        """Raise when a problem is an error.

        Raises
        ------
        CompileError
            With the errors.
        """
        errors = tuple(self.of("error"))
        if errors:
            raise CompileError(f"the check found {self.count()}", problems=errors)

    def of(self, severity: Severity) -> list[Problem]:
        """Return the problems of one severity, in order."""
        return [problem for problem in self.problems if problem.severity == severity]

    def json(self) -> str:
        """Return the problems and how many there are as JSON, for machines."""
        content = {
            "operations": len(self.orchestration.operations),
            **{f"{severity}s": len(self.of(severity)) for severity in SEVERITIES},
            "problems": [asdict(problem) for problem in self.problems],
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    def count(self) -> str:
        """Return one line: ``"1 error and 2 warnings in 5 operations."``."""
        found = [(severity, len(self.of(severity))) for severity in SEVERITIES]
        counts = [_count(number, severity) for severity, number in found if number]
        what = " and ".join([", ".join(counts[:-1]), counts[-1]] if counts[1:] else counts)
        return (
            f"{what or 'No problems'} in {_count(len(self.orchestration.operations), 'operation')}."
        )

    def __str__(self) -> str:
        if not self.orchestration.operations:
            return Report.__str__(self)
        lines = []
        for severity in SEVERITIES:
            several = self.of(severity)
            lines += [f"{severity.title()}s"] if several else []
            for problem in several:
                where = f"{problem.cell}: " if problem.cell else ""
                lines.append(f"  {where}{problem.message}")
                lines += [f"    → {problem.fix}"] if problem.fix else []
        return "\n".join([*lines, self.count()])


def _outermost_first(plan: Orchestration) -> list[FlowDefinition]:
    return sorted(
        plan.flows, key=lambda flow: (flow.name != "main_flow", flow.hierarchy_path == "")
    )


def _flow_lines(plan: Orchestration, flow: FlowDefinition) -> list[str]:
    signature = ", ".join(_parameter(parameter) for parameter in flow.parameters)
    lines = [f"  {flow.name}({signature})"]
    if flow.blocked:
        return [f"{lines[0]}: blocked"]
    each = {node.name: f" per {', '.join(node.maps)}" for node in plan.operations if node.maps}
    stages = [
        " | ".join(name + each.get(name, "") for name in stage) for stage in flow.parallel_groups
    ]
    lines.append(f"      runs {' → '.join(stages)}")
    if flow.returns:
        lines.append(f"      returns {', '.join(flow.returns)}")
    return lines


def _parameter(parameter: Parameter) -> str:
    text = parameter.name
    if parameter.annotation:
        text += f": {parameter.annotation.text}"
    if parameter.default:
        text += (
            f" = {parameter.default.text}" if parameter.annotation else f"={parameter.default.text}"
        )
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Loaded(Answer):
    """What was loaded, from where, and where it is now."""

    operations: tuple[str, ...]
    cells: int
    source: str
    notes: tuple[str, ...] = ()
    written: str = ""
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"{_count(len(self.operations), 'operation')} of {self.source}"
        cells = _count(self.cells, "cell")
        first = (
            f"{what} written to {self.written}, as {cells}" if self.written else f"{what} loaded"
        )
        lines = [first, *(f"note: {note}" for note in self.notes)]
        if self.flags:
            lines.append(f"Export it as it was: %pulpo export {shlex.join(self.flags)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Listing(Answer):
    """A table: a head and rows of text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str = "Nothing yet."

    def __str__(self) -> str:
        if not self.rows:
            return self.empty
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.head, *self.rows)
        )

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{_escape(self.empty)}</p>"
        head = "".join(f'<th style="text-align:left">{_escape(cell)}</th>' for cell in self.head)
        body = "".join(
            "<tr>"
            + "".join(f'<td style="text-align:left">{_escape(cell)}</td>' for cell in row)
            + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Preview(Answer):
    """The generated code of some flows, by name."""

    code: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """All of it, as one text."""
        return "\n\n".join(code for _, code in self.code)

    def __getitem__(self, flow: str) -> str:
        return dict(self.code)[flow]

    def __str__(self) -> str:
        return self.text.rstrip()

    def _repr_html_(self) -> str:
        parts = []
        for name, code in self.code:
            shown = " open" if len(self.code) == 1 else ""
            parts.append(
                f"<details{shown}><summary><code>{_escape(name)}.py</code></summary>"
                f"{highlighted(code)}</details>"
            )
        return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SourceView(Answer):
    """One operation: where it stands, what it takes and gives, and its source."""

    title: str
    lines: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return "\n".join(
            [self.title, *(f"  {line}" for line in self.lines), "", self.source.rstrip()]
        )

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{_escape(line)}</li>" for line in self.lines)
        return (
            f"<p><b><code>{_escape(self.title)}</code></b></p><ul>{items}</ul>"
            f"{highlighted(self.source)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Exported(Answer):
    """What an export wrote, and where."""

    folder: Path
    files: tuple[tuple[str, int], ...]
    flows: tuple[str, ...]
    removed: tuple[str, ...] = ()
    backed_up: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    shown_as: str = "run_cache"
    usage: str = field(default="")
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{_count(len(self.flows), 'flow')} exported to {self.shown_as}/"]
        if self.kept:
            lines[0] += f", and made anew: {', '.join(self.kept)}"
        lines += [f"  {self.shown_as}/{name}" for name, _ in self.files]
        lines += [f"removed {self.shown_as}/{name}" for name in self.removed]
        lines += [f"kept your edited file as {self.shown_as}/{name}" for name in self.backed_up]
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.usage:
            lines.append(f"Run it anywhere: {self.usage}")
        return "\n".join(lines)


Kind = Literal["added", "removed", "changed"]
_SIGNS: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is other than in the last export.

    Parameters
    ----------
    kind
        What became of it since.
    name
        What it is called.
    details
        What it is, or was; for what changed: what of it, each in a line.
    """

    kind: Kind
    name: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file that an export would write otherwise; ``lines`` are its unified diff."""

    kind: Kind
    name: str
    lines: tuple[str, ...] = ()

    def counts(self) -> str:
        """Return how many lines came and went."""
        body = self.lines[2:]  # the first two name the file
        added, removed = (sum(line.startswith(sign) for line in body) for sign in "+-")
        parts = [f"{_count(added, 'line')} added"] if added else []
        parts += [f"{_count(removed, 'line')} removed"] if removed else []
        return ", ".join(parts) or "only lines that look like credentials, which are not shown"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Diff(Answer):
    """What changed since the last export: ``-`` is the export, ``+`` the session as it is now.

    Parameters
    ----------
    folder
        The export folder, as the person called it.
    exported
        Whether there is an export in it.
    operations, edges, flows, files
        What is other than there.
    edited, deleted
        Files that were changed or deleted by hand since the export.
    refused
        Why the session cannot be exported as it is now; no file is compared then.
    notes
        What else there is to know; none of it is a difference.
    """

    folder: str
    exported: bool = True
    operations: tuple[Change, ...] = ()
    edges: tuple[Change, ...] = ()
    flows: tuple[Change, ...] = ()
    files: tuple[FileChange, ...] = ()
    edited: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    refused: str = ""
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """True when an export would change something, or cannot be made."""
        parts = (self.operations, self.edges, self.flows, self.files, self.edited, self.deleted)
        return not self.exported or bool(self.refused) or any(parts)

    def json(self) -> str:
        """Return all of it as JSON, for machines; ``docs/plan.md`` says what each key means."""
        content = {"differs": self.differs, **asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False)

    def _lead(self) -> str:
        if not self.exported:
            return (
                f"No export in {self.folder}/ yet, so there is nothing to compare with: make one "
                "by '%pulpo export', or by 'pulpo compile' in a terminal."
            )
        if not self.differs:
            return f"Nothing has changed since the last export to {self.folder}/."
        return f"Changed since the last export: - is {self.folder}/, + is the session now"

    def _remarks(self) -> list[str]:
        folder = self.folder
        lines = [f"edited by hand since: {folder}/{name}" for name in self.edited]
        lines += [f"deleted by hand since: {folder}/{name}" for name in self.deleted]
        if self.refused:
            lines.append(f"The code is not compared, since there can be no export: {self.refused}")
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def _changes(self) -> list[tuple[str, tuple[Change, ...]]]:
        parts = {"operations": self.operations, "edges": self.edges, "flows": self.flows}
        return [(title, changes) for title, changes in parts.items() if changes]

    def __str__(self) -> str:
        lines = [self._lead()]
        for title, changes in self._changes():
            lines += [title, *(line for change in changes for line in _change_lines(change))]
        lines += self._remarks()
        if self.files:
            lines += ["files", *(f"  {_SIGNS[f.kind]} {f.name}: {f.counts()}" for f in self.files)]
        for file in self.files:
            lines += ["", *file.lines] if file.lines else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p>{_escape(self._lead())}</p>"]
        for title, changes in self._changes():
            items = "".join(f"<li>{_change_html(change)}</li>" for change in changes)
            parts.append(f"<p><b>{title}</b></p><ul>{items}</ul>")
        parts += [f"<p>{_escape(remark)}</p>" for remark in self._remarks()]
        if self.files:
            parts.append("<p><b>files</b></p>")
        shown = " open" if len(self.files) == 1 else ""
        for file in self.files:
            parts.append(
                f"<details{shown}><summary>{_badge(file.kind)} <code>{_escape(file.name)}</code>: "
                f"{_escape(file.counts())}</summary><pre>{_diff_html(file.lines)}</pre></details>"
            )
        return f'<style>{_DIFF_STYLE}</style><div class="pulpo-diff">{"".join(parts)}</div>'


def _change_lines(change: Change) -> list[str]:
    sign, details = _SIGNS[change.kind], change.details
    if len(details) == 1:
        return [f"  {sign} {change.name}: {details[0]}"]
    return [f"  {sign} {change.name}", *(f"      {detail}" for detail in details)]


def _change_html(change: Change) -> str:
    head = f"{_badge(change.kind)} <code>{_escape(change.name)}</code>"
    if len(change.details) == 1:
        return f"{head}: {_escape(change.details[0])}"
    details = "".join(f"<li>{_escape(detail)}</li>" for detail in change.details)
    return f"{head}<ul>{details}</ul>" if details else head


def _badge(kind: Kind) -> str:
    """Return the change as sign and word: colour alone tells nobody."""
    return f'<span class="pulpo-{kind}">{_SIGNS[kind]} {kind}</span>'


def _diff_html(lines: Sequence[str]) -> str:
    return "\n".join(
        f'<span class="{_line_class(place, line)}">{_escape(line)}</span>'
        for place, line in enumerate(lines)
    )


def _line_class(place: int, line: str) -> str:
    if place < 2 or line.startswith("@@"):
        return "pulpo-place"
    return {"+": "pulpo-added", "-": "pulpo-removed"}.get(line[:1], "pulpo-same")


# Tints of half-transparent colour, under the theme's own text: they are legible on light and dark.
_DIFF_STYLE = (
    ".pulpo-diff pre{overflow-x:auto;margin:.3em 0 .8em 1em;line-height:1.4}"
    # A notebook's page sets pre in the font of its text.
    ".pulpo-diff pre,.pulpo-diff pre span{font-family:var(--jp-code-font-family,monospace)}"
    ".pulpo-diff .pulpo-added{background:rgba(46,160,67,.22)}"
    ".pulpo-diff .pulpo-removed{background:rgba(248,81,73,.2)}"
    ".pulpo-diff .pulpo-changed{background:rgba(187,128,9,.2)}"
    ".pulpo-diff li>span,.pulpo-diff summary>span{padding:0 .4em;border-radius:.3em}"
    ".pulpo-diff .pulpo-place{opacity:.75;font-weight:bold}"
    ".pulpo-diff ul{margin:0 0 .5em 0}.pulpo-diff p{margin:.3em 0}"
)


def highlighted(code: str) -> str:
    """Return Python code as HTML, in the colours of the notebook's own theme.

    Very long code has none: it would take seconds.
    """
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers.python import PythonLexer

    if len(code) > _COLOURED:
        body = _escape(code)
    else:
        body = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))
    return f'<style>{_CODE_STYLE}</style><div class="pulpo-code"><pre>{body}</pre></div>'


def _colour(classes: Sequence[str], variable: str, light: str) -> str:
    names = ",".join(f".pulpo-code .{name}" for name in classes)
    return f"{names}{{color:var(--jp-mirror-editor-{variable}-color,{light})}}"


def _style() -> str:
    rows: Iterable[tuple[Sequence[str], str, str]] = (
        (("k", "kn", "kc", "ow"), "keyword", "#007b00"),
        (("s", "s1", "s2", "sd", "sa", "si"), "string", "#ba2121"),
        (("c1", "cm"), "comment", "#3f7f7f"),
        (("nf", "nc", "fm"), "def", "#0000c0"),
        (("mi", "mf"), "number", "#007a45"),
        (("nd",), "meta", "#8f3fc0"),
        (("nb",), "builtin", "#007b00"),
    )
    return ".pulpo-code pre{overflow-x:auto}" + "".join(_colour(*row) for row in rows)


_CODE_STYLE = _style()
_COLOURED = 60_000  # characters
