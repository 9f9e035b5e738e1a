"""The form of a flow: a control for each parameter, with what is wrong told at the field."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from ..backends.render import escape
from ..errors import PulpoError
from ..parameters import UNSET, Field
from .layout import close_all, html

__all__ = ["Form"]

_WIDTH = "min(100%, 460px)"
#: Pixels that a letter of a label takes, and that a label may take before the rest is below it.
_LETTER, _LONGEST = 8, 200
#: Of more parameters than this the rest has its defaults: a page of fields is no form.
_MOST = 40
_NAMED = 12


class Form(widgets.VBox):  # type: ignore[misc]
    """A control for each parameter of a flow.

    Parameters
    ----------
    on_change
        Called when a person changed a value.

    Attributes
    ----------
    rows
        A `Row` for each parameter, by its name.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.rows: dict[str, Row] = {}
        self._on_change = on_change
        self._more = html()
        super().__init__()
        self.add_class("pulpo-form")

    def show(self, fields: Sequence[Field]) -> None:
        """Show these fields; one that is as it was keeps what a person typed."""
        before = self.rows
        self.rows = {}
        # A person has to give these.
        first = sorted(fields, key=lambda field: not field.required)[:_MOST]
        names = {field.name for field in first}
        for field in [field for field in fields if field.name in names]:
            shown = before.pop(field.name, None)
            if shown is not None and not shown.fits(field):
                close_all(shown)
                shown = None
            if shown is None:
                shown = Row(field, self._on_change)
            else:
                shown.update(field)
            self.rows[field.name] = shown
        self._more.value = _rest([field for field in fields if field.name not in self.rows])
        self._more.layout.display = None if self._more.value else "none"
        longest = max((len(name) for name in self.rows), default=0)
        for shown in self.rows.values():
            shown.align(longest)
        self.children = (*self.rows.values(), self._more)
        for gone in before.values():
            close_all(gone)

    def values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the parameters that a person gave, and what is wrong, both by name."""
        values: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, shown in self.rows.items():
            try:
                value = shown.parse() if shown.is_given else UNSET
                if value is not UNSET:
                    values[name] = value
            except PulpoError as error:
                wrong[name] = str(error)
            shown.tell(wrong.get(name, ""))
        return values, wrong


class Row(widgets.HBox):  # type: ignore[misc]
    """One parameter: its control, and beside it what to type, or what is wrong with it.

    Attributes
    ----------
    wrong
        What is wrong with the value; empty when it is right.
    """

    def __init__(self, field: Field, on_change: Callable[[], None]) -> None:
        self.field = field
        self._on_change = on_change
        self.wrong = ""
        self.control = _CONTROLS.get(field.kind, _text)(field)
        self.control.layout.width = _WIDTH
        self._first = self.control.value
        self._words = html("", "pulpo-field-words")
        super().__init__([self.control, self._words])
        self.add_class("pulpo-row")
        self.control.observe(lambda _: self._check(), "value")
        self.tell("")

    @property
    def is_given(self) -> bool:
        """False when the parameter has its default, or what an earlier run gave."""
        return self.field.required or self.control.value != self._first

    def align(self, longest: int) -> None:
        """Begin the control where those of the other rows do; ``longest`` is their longest name."""
        width = min(longest * _LETTER + 8, _LONGEST)
        self.control.style.description_width = f"{width}px"

    def fits(self, field: Field) -> bool:
        """Return whether this is the row of a field: the same control, the same default."""
        mine = self.field
        same = (mine.kind, mine.annotation, mine.text, [label for label, _ in mine.choices])
        return same == (
            field.kind,
            field.annotation,
            field.text,
            [label for label, _ in field.choices],
        )

    def update(self, field: Field) -> None:
        """Take a field that fits: whether it is required, and its hint, may be others."""
        self.field = field
        self.tell(self.wrong)

    def parse(self) -> Any:
        """Return the value; `PulpoError` in pydantic's words when it is none."""
        return self.field.parse(self.control.value)

    def tell(self, wrong: str) -> None:
        """Say what is wrong with the value; nothing when it is right."""
        self.wrong = wrong
        said = f'<span class="pulpo-bad">✗ {escape(wrong)}</span>' if wrong else _hint(self.field)
        self._words.value = f"<span>{said}</span>"
        (self.add_class if wrong else self.remove_class)("pulpo-invalid")

    def _check(self) -> None:
        self._on_change()
        try:
            if self.is_given:
                self.parse()
        except PulpoError as error:
            self.tell(str(error))
        else:
            self.tell("")


def _rest(fields: Sequence[Field]) -> str:
    if not fields:
        return ""
    names = ", ".join(field.name for field in fields[:_NAMED])
    names += f" and {len(fields) - _NAMED:,} more" if len(fields) > _NAMED else ""
    many = [field for field in fields if field.required]
    if many:
        return escape(f"Too many parameters for a form; use %pulpo run --param for {names}.")
    return escape(f"{len(fields):,} more parameters have their defaults: {names}.")


def _hint(field: Field) -> str:
    # A switch, a choice and a date show by themselves what they are.
    plain = field.kind in ("switch", "choice", "date")
    kind = "" if plain or not field.annotation else f"<code>{escape(field.annotation)}</code>"
    # A label of this length is cut.
    name = escape(field.name) if len(field.name) * _LETTER + 8 > _LONGEST else ""
    said = [name, kind, "required" if field.required else "", escape(field.hint)]
    return " · ".join(part for part in said if part)


# Numbers and times too: a browser's own fields for these drop what they do not know (2.5 and 1e1 of
# an integer, inf, a time's zone), and then what runs is not what is seen.
def _text(field: Field) -> Any:
    if "\n" in field.text:
        return _long(field, field.annotation)
    return widgets.Text(
        value=field.text, description=field.name, placeholder=field.annotation or "text"
    )


def _json(field: Field) -> Any:
    return _long(field, "JSON, or @variable")


def _long(field: Field, placeholder: str) -> Any:
    rows = min(12, max(3, field.text.count("\n") + 1))
    return widgets.Textarea(
        value=field.text, description=field.name, placeholder=placeholder, rows=rows
    )


def _switch(field: Field) -> Any:
    return widgets.Checkbox(value=field.default is True, description=field.name)


def _choice(field: Field) -> Any:
    labels = [label for label, _ in field.choices]
    default = field.default
    same = [
        label for label, each in field.choices if type(each) is type(default) and each == default
    ]
    now = next(iter(same), None)
    if now is None:  # a person has to choose
        labels.insert(0, "")
    return widgets.Dropdown(options=labels, value=now or labels[0], description=field.name)


def _date(field: Field) -> Any:
    if field.default is not UNSET and type(field.default) is not datetime.date:
        return _text(field)  # None, for example, which a picker shows as if nothing was there
    value = None if field.default is UNSET else field.default
    return widgets.DatePicker(value=value, description=field.name)


_CONTROLS: dict[str, Callable[[Field], Any]] = {
    "json": _json,
    "switch": _switch,
    "choice": _choice,
    "date": _date,
}
