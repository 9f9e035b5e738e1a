"""What the session answers, each as plain text and as HTML; equal sessions give equal text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BlockedFlowError, Problem
from .plan import FlowDefinition, Orchestration, Parameter

__all__ = ["Answer", "Declared", "Exported", "Listing", "Preview", "Report", "SourceView"]


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
        if not self.flows and not self.problems and plan.operations:
            lines.append(f"No problems in {_count(len(plan.operations), 'operation')}.")
        return "\n".join(lines)


def _outermost_first(plan: Orchestration) -> list[FlowDefinition]:
    return sorted(
        plan.flows, key=lambda flow: (flow.name != "main_flow", flow.hierarchy_path == "")
    )


def _flow_lines(plan: Orchestration, flow: FlowDefinition) -> list[str]:
    signature = ", ".join(_parameter(parameter) for parameter in flow.parameters)
    lines = [f"  {flow.name}({signature})"]
    if flow.blocked:
        return [f"{lines[0]}: blocked"]
    stages = [" | ".join(stage) for stage in flow.parallel_groups]
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

    def __str__(self) -> str:
        lines = [f"{_count(len(self.flows), 'flow')} exported to {self.shown_as}/"]
        lines += [f"  {self.shown_as}/{name}" for name, _ in self.files]
        lines += [f"removed {self.shown_as}/{name}" for name in self.removed]
        lines += [f"kept your edited file as {self.shown_as}/{name}" for name in self.backed_up]
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.usage:
            lines.append(f"Run it anywhere: {self.usage}")
        return "\n".join(lines)


def highlighted(code: str) -> str:
    """Return Python code as HTML, in the colours of the notebook's own theme."""
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers.python import PythonLexer

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
