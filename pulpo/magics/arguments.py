"""The command lines of magics: split as a shell would, refused with errors of our own."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NoReturn

from ..errors import UsageError, did_you_mean

__all__ = [
    "HelpRequested",
    "Parser",
    "ports_of",
    "parse_operation",
    "operation_parser",
    "split",
    "takes_help",
    "whole",
]


class HelpRequested(Exception):
    """``--help`` was given: ``text`` is to be shown, and nothing else done."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError` and never leaves the process."""

    def __init__(self, **options: Any) -> None:
        # A fixed width: what help prints must not depend on the terminal.
        super().__init__(
            **options,
            allow_abbrev=False,
            add_help=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=88),
        )
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this text")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse ``words``; every flaw is a `UsageError` of one line."""
        arguments, rest = self.parse_known_args(list(words))
        if rest:
            raise UsageError(self._unexpected(rest[0]))
        return arguments

    def flags(self) -> list[str]:
        """Return the long flags, in the order of the help."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def arguments(self) -> list[argparse.Action]:
        """Return every argument, flags and places, in the order of the help."""
        return list(self._actions)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed."""
        message = re.sub(r"^argument (\S+?):", r"\1", message)
        message = re.sub(
            r"invalid choice: ('.*?') \(choose from (.*)\)",
            lambda found: f"is one of {found[2].replace(chr(39), '')}, not {found[1]}",
            message,
        )
        message = message.replace("not allowed with argument", "is not allowed with")
        message = message.replace("the following arguments are required:", "what is missing is")
        raise UsageError(f"{self.prog}: {message}. {self._try_help()}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise: a notebook's kernel must not end."""
        raise UsageError(message or f"{self.prog} ended with {status}")

    def _unexpected(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{self.prog}: {word!r} is one word too many. {self._try_help()}"
        flag = word.partition("=")[0]
        hint = did_you_mean(flag, self.flags())
        return f"{self.prog}: there is no flag {flag!r}.{hint} {self._try_help()}"

    def _try_help(self) -> str:
        return f"See '{self.prog} --help'."


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_rest: object, **_more: object) -> None:
        raise HelpRequested(parser.format_help())


def split(line: str) -> list[str]:
    """Split a magic's line into words, without a comment at its end.

    Raises
    ------
    UsageError
        For a quote that is never closed.
    """
    try:
        return shlex.split(_without_comment(line))
    except ValueError as error:
        raise UsageError(f"cannot read {line.strip()!r}: {str(error).lower()}.") from None


def _without_comment(line: str) -> str:
    # shlex would also cut 'a#b', and trip over the apostrophe in '# what's wrong'.
    quote = ""
    for place, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place]
    return line


def takes_help(line: str) -> bool:
    """Return whether the line asks for help, whatever else is on it."""
    try:
        return any(word in ("-h", "--help") for word in split(line))
    except UsageError:
        return False


# --- %%operation ---------------------------------------------------------------------------------


@cache
def operation_parser() -> Parser:
    """Return the parser of ``%%operation``."""
    parser = Parser(
        prog="%%operation",
        description="Declare the function of this cell as an operation.",
        epilog=(
            "A cell with one function declares it; helpers that it uses, or that begin with an "
            "underscore, may stand beside it, and --function picks. A cell without a function "
            "is wrapped in one by --in and --out. '%operation' on a cell's first line means the "
            "same."
        ),
    )
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="a dotted name, such as scraping.merge")
    add("--function", metavar="F", help="which of the cell's functions it is")
    add("--in", dest="ins", action="append", metavar="PORT:MODEL", help="wrap the cell: it takes")
    add("--out", dest="outs", action="append", metavar="NAME:MODEL", help="wrap the cell: it gives")
    add("--inputs", action="append", metavar="MODEL", help="models for unannotated parameters")
    add("--outputs", action="append", metavar="MODEL", help="models it gives")
    add("--description", metavar="TEXT", help="what the task is for")
    add("--tags", action="append", metavar="TAG", help="tags; commas or several times")
    add("--retries", type=whole, metavar="N", help="how often to try again")
    add("--retry-delay", type=_seconds, metavar="SECONDS", help="to wait before each retry")
    add("--timeout", type=_seconds, metavar="SECONDS", help="after which a try has failed")
    add("--cache", metavar="TIME", help="reuse results for equal inputs: 1h, or 'inputs': always")
    add("--after", action="append", metavar="OPERATION", help="wait for it, without its data")
    add("--bind", action="append", type=_pair, metavar="PORT=OPERATION", help="who feeds a port")
    add("--strategy", choices=("thread", "process"), help="where a sync function runs")
    add("--max-concurrency", type=whole, metavar="N", help="how many elements at a time")
    add("--on-element-error", choices=("fail", "skip"), help="when one of many elements fails")
    return parser


def parse_operation(line: str) -> argparse.Namespace:
    """Parse the line after ``%%operation``; ``.flags`` has the flags that were given.

    Raises
    ------
    UsageError
        For a missing name and for every wrong flag or value.
    """
    arguments = operation_parser().parse(split(line))
    if not arguments.name:
        raise UsageError(
            "%%operation needs a name: '%%operation scraping.merge'. See '%%operation --help'."
        )
    if arguments.function and (arguments.ins or arguments.outs):
        raise UsageError(
            "%%operation: --function picks a function of the cell, --in and --out wrap a cell "
            "that has none. Use one or the other."
        )
    arguments.flags = _flags(arguments)
    return arguments


_SINGLE = (
    "description",
    "retries",
    "retry_delay",
    "timeout",
    "cache",
    "strategy",
    "max_concurrency",
    "on_element_error",
)


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    several = ("tags", "after", "inputs", "outputs")
    flags: dict[str, Any] = {flag: _listed(getattr(arguments, flag)) for flag in several}
    flags["bind"] = tuple(arguments.bind) if arguments.bind else None
    for flag in _SINGLE:
        flags[flag] = getattr(arguments, flag)
    return {flag: value for flag, value in flags.items() if value is not None}


def _listed(words: list[str] | None) -> tuple[str, ...] | None:
    if words is None:
        return None
    return tuple(part.strip() for word in words for part in word.split(",") if part.strip())


def ports_of(words: list[str] | None) -> list[tuple[str, str, str]]:
    """Return ``(name, annotation, default)`` of each ``raw:RawJobs`` or ``pages:int=3``.

    Raises
    ------
    UsageError
        For what is no name and annotation.
    """
    ports = []
    for word in words or ():
        name, colon, rest = word.partition(":")
        annotation, equals, default = (rest if colon else name).partition("=")
        if not colon:
            name, annotation = annotation, ""
        port = (name.strip(), annotation.strip(), default.strip())
        if not port[0].isidentifier() or (colon and not port[1]) or (equals and not port[2]):
            raise UsageError(
                f"%%operation: {word!r} is no port. Write a name and a model, "
                "such as 'raw:RawJobs' or 'pages:int=3'."
            )
        ports.append(port)
    return ports


def _pair(word: str) -> tuple[str, str]:
    port, equals, operation = word.partition("=")
    if not (port and equals and operation):
        raise argparse.ArgumentTypeError(
            f"takes port=operation, such as raw=scraping.merge, not {word!r}"
        )
    return port, operation


def _number(kind: Callable[[str], float], what: str) -> Callable[[str], float]:
    def convert(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = -1
        if not 0 <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"takes {what}, not {word!r}")
        return value

    return convert


whole = _number(int, "a whole number from 0")
_seconds = _number(float, "seconds, such as 30 or 1.5")
