"""When each operation of a run ran, as bars along one axis, and which ones the run waited for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ..plan import FlowDefinition, FromList, FromResult, Orchestration, Step
from .render import ALONE, INLINE, escape, in_page
from .view import SIGNS, shorten

__all__ = ["Bar", "Timeline", "critical_path", "duration"]

_ROWS = 60  # a picture has at most so many
_ROW, _BAR, _PLOT, _LETTER = 18, 12, 520, 6.6  # pixels
_TEXT_PLOT, _LONGEST = 50, 44  # characters
#: Seconds by which clocks, and the hand-over from one operation to the next, may differ.
_BLUR = 1e-6

_RULES = (
    ".pulpo{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',"
    "Arial,sans-serif;font-size:11px}"
    ".pulpo-time text{fill:var(--dim);font-size:11px}.pulpo-time .name{fill:var(--ink)}"
    ".pulpo-time .axis{stroke:var(--frame);stroke-opacity:.4}"
    ".pulpo-time rect{fill:var(--good);fill-opacity:.45;stroke:var(--good)}"
    ".pulpo-time .failed rect{fill:var(--bad);stroke:var(--bad)}"
    ".pulpo-time .cancelled rect{fill:none;stroke:var(--frame);stroke-dasharray:3 2}"
    ".pulpo-time .cached rect{fill:none;stroke-dasharray:3 2}"
    ".pulpo-time .critical rect{fill-opacity:.9;stroke:var(--ink);stroke-width:1.5}"
    ".pulpo-time .critical .name{font-weight:700}"
    ".pulpo-time .wait{fill:none;stroke:var(--ink);stroke-opacity:.6}"
)


class Bar(NamedTuple):
    """One operation: its times are seconds from the start of the run, ``state`` how it ended."""

    name: str
    start: float
    seconds: float
    state: str = "done"
    note: str = ""

    @property
    def end(self) -> float:
        """When it ended."""
        return self.start + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What ran when.

    Parameters
    ----------
    bars
        One for each operation that was started.
    critical
        The operations that the run waited for, one after the other: see `critical_path`.
    seconds
        How long the whole run took.
    """

    flow: str
    bars: tuple[Bar, ...]
    critical: tuple[str, ...]
    seconds: float

    @property
    def title(self) -> str:
        """The same in one line, equal for equal runs."""
        count = len(self.bars)
        return f"Timeline of {self.flow}: {count} operation{'s' * (count != 1)}"

    @property
    def svg(self) -> str:
        """The picture, as an SVG document of its own."""
        return self._svg(ALONE)

    @property
    def inline(self) -> str:
        """The picture as an SVG element of a page, in whose theme it is shown."""
        return self._svg(INLINE)

    def _repr_html_(self) -> str:
        return in_page(self.svg, self.inline, alt=self.title)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        # Equal runs print equal text; times stand in the picture.
        plain = f"{self.title}; print() shows it as text"
        return {"text/plain": plain, "text/html": self._repr_html_()}

    def __str__(self) -> str:
        rows, more = self._rows()
        end = self._end()
        width = max((len(bar.name) for bar in rows), default=0)
        lines = [f"{self.title}, {duration(self.seconds)}"]
        for bar in rows:
            first = min(_TEXT_PLOT - 1, int(bar.start / end * _TEXT_PLOT))
            size = max(1, min(_TEXT_PLOT, math.ceil(bar.end / end * _TEXT_PLOT)) - first)
            drawn = " " * first + ("█" if bar.name in self.critical else "▒") * size
            mark = "◆" if bar.name in self.critical else " "
            told = " ".join(filter(None, (duration(bar.seconds), bar.note, _told(bar))))
            lines.append(f"{mark} {bar.name:<{width}} |{drawn:<{_TEXT_PLOT}}| {told}")
        if more:
            lines.append(f"… and {more:,} shorter ones")
        return "\n".join([*lines, *filter(None, [self._legend()])])

    def _legend(self) -> str:
        by_name = {bar.name: bar for bar in self.bars}
        took = sum(by_name[name].seconds for name in self.critical)
        if not self.critical:
            return ""
        return (
            f"◆ critical path: {duration(took)} of {duration(self.seconds)}; only what is on it "
            "can make the run shorter"
        )

    def _end(self) -> float:
        return max([self.seconds, *(bar.end for bar in self.bars)]) or 1.0

    def _rows(self) -> tuple[list[Bar], int]:
        """Return what is drawn, by its start, and how many are not."""
        first = sorted(self.bars, key=lambda bar: (bar.name not in self.critical, -bar.seconds))
        kept = sorted(first[:_ROWS], key=lambda bar: (bar.start, bar.end))
        return kept, len(self.bars) - len(kept)

    def _svg(self, theme: str) -> str:
        rows, more = self._rows()
        end = self._end()
        names = {bar.name: shorten(bar.name, _LONGEST) for bar in rows}
        left = 24 + max((len(name) for name in names.values()), default=0) * _LETTER
        bottom = (len(rows) + bool(more)) * _ROW + 6
        legend = self._legend()
        right = max((len(_beside(bar)) for bar in rows), default=0) * _LETTER
        height, width = bottom + 20 + 20 * bool(legend), left + _PLOT + max(110, 12 + right)

        def x(seconds: float) -> float:
            return left + seconds / end * _PLOT

        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="pulpo pulpo-time" role="img" '
            f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}" '
            f'style="max-width:100%;min-width:{width * 0.7:.0f}px;height:auto">'
            f"<title>{escape(self.title)}.</title><desc>{escape(legend)}</desc>"
            f"<style>{theme}{_RULES}</style>"
        ]
        for tick in _ticks(end):
            at = f"{x(tick):.1f}"
            parts.append(
                f'<path class="axis" d="M{at},0V{bottom}"/>'
                f'<text x="{at}" y="{bottom + 12}" text-anchor="middle">{tick:g} s</text>'
            )
        place = {bar.name: number for number, bar in enumerate(rows)}
        parts += self._waits(rows, place, x)
        for number, bar in enumerate(rows):
            parts.append(
                self._bar(bar, names[bar.name], number * _ROW + 3, x(bar.start), x(bar.end))
            )
        if more:
            down = len(rows) * _ROW + 13
            parts.append(f'<text x="16" y="{down}">… and {more:,} shorter ones</text>')
        if legend:
            parts.append(f'<text x="4" y="{bottom + 32}">{escape(legend)}</text>')
        return "".join([*parts, "</svg>"])

    def _bar(self, bar: Bar, name: str, top: float, start: float, end: float) -> str:
        critical = bar.name in self.critical
        kind = {"timed out": "failed"}.get(bar.state, bar.state)
        told = _beside(bar)
        mark = f'<text x="4" y="{top + 10}">◆</text>' if critical else ""
        return (
            f'<g class="{escape(kind)}{" critical" * critical}">'
            f"<title>{escape(bar.name)}: {bar.start:.2f} s to {bar.end:.2f} s, "
            f"{escape(told)}</title>"
            f'{mark}<text class="name" x="16" y="{top + 10}">{escape(name)}</text>'
            f'<rect x="{start:.1f}" y="{top}" rx="2" width="{max(end - start, 1.5):.1f}" '
            f'height="{_BAR}"/>'
            f'<text x="{max(end, start + 1.5) + 5:.1f}" y="{top + 10}">{escape(told)}</text></g>'
        )

    def _waits(
        self, rows: Sequence[Bar], place: Mapping[str, int], x: Callable[[float], float]
    ) -> Iterator[str]:
        """Yield a line from each bar of the critical path to the next."""
        by_name = {bar.name: bar for bar in rows}
        shown = [name for name in self.critical if name in place]
        for before, after in pairwise(shown):
            at, down = x(by_name[before].end), place[after] * _ROW + 9
            yield (
                f'<path class="wait" d="M{at:.1f},{place[before] * _ROW + 9}V{down}'
                f'H{x(by_name[after].start):.1f}"/>'
            )


def _beside(bar: Bar) -> str:
    """Return what stands beside a bar."""
    return " · ".join(filter(None, (duration(bar.seconds), bar.note, _told(bar))))


def critical_path(
    plan: Orchestration, flow: FlowDefinition, bars: Sequence[Bar]
) -> tuple[str, ...]:
    """Return the chain of operations that decided how long a run of ``flow`` took.

    It ends with the operation that ended last; before each stands what it waited for: of all that
    it needs, by data, by order, or since a flow is done when all in it is, the one that ended last.
    It is the critical path of the run that was (Kelley and Walker, 1959), not of the estimates.
    """
    spans = {bar.name: bar for bar in bars}
    if not spans:
        return ()
    flows = {each.name: each for each in plan.flows}
    needs = {name: list(groups) for name, groups in _needs(flows, flow)}
    chain = [max(spans.values(), key=lambda bar: bar.end)]
    while True:
        now = chain[-1]
        before = [
            spans[name]
            for group in needs.get(now.name, ())
            for name in group
            if name in spans and spans[name].end <= now.start + _BLUR
        ]
        before = [bar for bar in before if bar not in chain]
        if not before:
            return tuple(bar.name for bar in reversed(chain))
        chain.append(max(before, key=lambda bar: bar.end))


def _needs(
    flows: Mapping[str, FlowDefinition], flow: FlowDefinition
) -> Iterator[tuple[str, list[Sequence[str]]]]:
    """Yield each operation below ``flow`` with what it waits for, in its flow and those around."""
    todo: list[tuple[FlowDefinition, list[Sequence[str]]]] = [(flow, [])]
    while todo:
        here, around = todo.pop()
        for step in here.steps:
            waits = [*around]
            for target in _before(step):
                waits.append(flows[target].covers if target in flows else (target,))
            if step.kind == "task":
                yield step.target, waits
            else:
                todo.append((flows[step.target], waits))


def _before(step: Step) -> Iterator[str]:
    yield from step.after
    for argument in step.arguments:
        source = argument.source
        for item in source.items if isinstance(source, FromList) else (source,):
            if isinstance(item, FromResult):
                yield item.step


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``"0.03 s"``, ``"3.2 s"``, ``"2 min 5 s"``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _told(bar: Bar) -> str:
    return "" if bar.state == "done" else f"{SIGNS.get(bar.state, '')} {bar.state}".strip()


def _ticks(end: float) -> Iterator[float]:
    """Yield four to ten round numbers from 0 to ``end``."""
    power = 10.0 ** math.floor(math.log10(end / 4))
    step = next(power * factor for factor in (10, 5, 2, 1) if end / (power * factor) >= 4)
    for number in range(int(end / step + 1e-9) + 1):
        yield round(number * step, 9)
