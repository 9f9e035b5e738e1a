"""Cutting source into statements with their comments, editing a statement, joining them again."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ["is_marked", "join", "rename_function", "split", "strip_decorators", "trim_import"]

Function = ast.FunctionDef | ast.AsyncFunctionDef
_Position = tuple[int, int]
_MARK = re.compile(r"#\s*pulpo:\s*carry\b")
_DEFINITION = re.compile(r"^(?:@|class\s|def\s|async\s+def\s)", re.MULTILINE)


def split(source: str) -> list[tuple[ast.stmt, str]]:
    """Return the top-level statements of a source, each with its text and the comments around it.

    Comment lines belong to the statement that follows; those that stand directly below a
    statement, with a blank line or the end after them, belong to that one. No comment is lost as
    long as there is a statement.

    Raises
    ------
    SyntaxError
        If the source is no Python.
    """
    source = _normal(source)
    nodes = ast.parse(source).body
    lines = source.split("\n")
    if not nodes:
        return []
    firsts = [_first_line(node) for node in nodes]
    lasts = [node.end_lineno or node.lineno for node in nodes]
    starts, ends = _with_comments(lines, firsts, lasts)
    found = []
    for place, node in enumerate(nodes):
        shares_first = place > 0 and lasts[place - 1] == firsts[place]
        shares_last = place + 1 < len(nodes) and firsts[place + 1] == lasts[place]
        begin, end = (starts[place] + 1, 0), (ends[place], None)
        if shares_first:  # a = 1; b = 2
            begin = (firsts[place], node.col_offset)
        text = _cut(lines, begin, (lasts[place], node.end_col_offset) if shares_last else end)
        if place + 1 == len(nodes):
            text = _closed_up(text, lasts[place] - starts[place])
        found.append((node, text.strip("\n")))
    if "pulpo:" in source:
        _mark_whole_lines(found, firsts, lasts)
    return found


def is_marked(text: str) -> bool:
    """Tell whether a statement is to be carried as it stands: ``# pulpo: carry``."""
    if not _MARK.search(text):
        return False
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    try:
        return any(one.type == tokenize.COMMENT and _MARK.match(one.string) for one in tokens)
    except (tokenize.TokenError, SyntaxError):
        return False


def _mark_whole_lines(
    found: list[tuple[ast.stmt, str]], firsts: list[int], lasts: list[int]
) -> None:
    """Give the mark behind ``a = 1; b = 2  # pulpo: carry`` to all statements of the line."""
    for place in range(len(found) - 2, -1, -1):
        node, text = found[place]
        joined = lasts[place] == firsts[place + 1]
        if joined and is_marked(found[place + 1][1]) and not is_marked(text):
            found[place] = (node, f"{text}  # pulpo: carry")


def _closed_up(text: str, length: int) -> str:
    """Return the last statement with the comments below it, however far, directly below it.

    With a blank line between, they would be the next statement's where another one follows.
    """
    lines = text.split("\n")
    return "\n".join([*lines[:length], *(line for line in lines[length:] if line.strip())])


def strip_decorators(text: str, unwanted: Callable[[ast.expr], bool]) -> str:
    """Return a definition's text without the decorators that ``unwanted`` picks."""
    node = ast.parse(text).body[0]
    lines = text.split("\n")
    for decorator in reversed(getattr(node, "decorator_list", [])):
        if unwanted(decorator):
            first = decorator.lineno - 1
            while not lines[first].lstrip().startswith("@"):
                first -= 1
            last = decorator.end_lineno or decorator.lineno
            while lines[last].lstrip().startswith(")"):  # @(…) may close further down
                last += 1
            del lines[first:last]
    return "\n".join(lines)


def rename_function(text: str, new: str) -> str:
    """Return a function's text with its name, and its calls of itself, changed to ``new``."""
    node = ast.parse(text).body[0]
    assert isinstance(node, Function)
    lines = text.split("\n")
    spots: list[_Position] = []
    keyword = lines[node.lineno - 1].encode()[node.col_offset :]
    match = re.match(rb"(?:async\s+)?def\s+", keyword)
    assert match is not None
    spots.append((node.lineno, node.col_offset + match.end()))
    for part in (child for statement in node.body for child in ast.walk(statement)):
        if isinstance(part, ast.Name) and part.id == node.name:
            spots.append((part.lineno, part.col_offset))
    size = len(node.name.encode())
    for line, column in sorted(spots, reverse=True):
        raw = lines[line - 1].encode()
        lines[line - 1] = (raw[:column] + new.encode() + raw[column + size :]).decode()
    return "\n".join(lines)


def trim_import(
    node: ast.Import | ast.ImportFrom, text: str, bound: Collection[str], needed: Collection[str]
) -> str:
    """Return an import line that binds only ``needed``; the user's own text if that is all.

    ``bound`` is everything that the line binds, which for ``import *`` only the session knows.
    """
    star = any(alias.name == "*" for alias in node.names)
    if not star and set(needed) >= set(bound):
        return text
    if star:
        aliases = [ast.alias(name=name) for name in sorted(needed)]
    else:
        aliases = [alias for alias in node.names if _bound_by(alias, node) in needed]
    return _with_comments_of(text, _import_line(node, aliases))


def _import_line(node: ast.Import | ast.ImportFrom, aliases: list[ast.alias]) -> str:
    if isinstance(node, ast.ImportFrom):
        line = ast.unparse(ast.ImportFrom(module=node.module, names=aliases, level=node.level))
        if len(line) > 88:
            listed = "".join(f"    {ast.unparse(alias)},\n" for alias in aliases)
            line = f"from {node.module} import (\n{listed})"
        return line
    return ast.unparse(ast.Import(names=aliases))


def _with_comments_of(text: str, line: str) -> str:
    """Keep the comments above a line, and the one behind it if it is one line."""
    above = [row for row in text.split("\n") if row.startswith("#")]
    last = ast.parse(text).body[0]
    row = text.split("\n")[last.lineno - 1].encode()
    behind = row[last.end_col_offset :].decode() if last.lineno == last.end_lineno else ""
    comment = behind if behind.lstrip().startswith("#") else ""
    return "\n".join([*above, line + comment])


def join(pieces: Iterable[str]) -> str:
    """Join statements: definitions two blank lines apart, other things as close as they look."""
    joined: list[str] = []
    previous = ""
    for piece in pieces:
        if joined:
            joined.append(_gap(previous, piece))
        joined.append(piece)
        previous = piece
    return "".join(joined) + "\n" if joined else ""


def _gap(above: str, below: str) -> str:
    if _DEFINITION.search(above) or _DEFINITION.search(below):
        return "\n\n\n"
    if _is_import(above) != _is_import(below) or "__future__" in above:
        return "\n\n"
    return "\n\n" if "\n" in above or "\n" in below else "\n"


def _is_import(piece: str) -> bool:
    last = piece.rsplit("\n", 1)[-1]
    return last.startswith(("import ", "from ")) or (last == ")" and "from " in piece[:200])


def _normal(source: str) -> str:
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _first_line(node: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _with_comments(
    lines: list[str], firsts: list[int], lasts: list[int]
) -> tuple[list[int], list[int]]:
    """Return, per statement, the first line's index and the index after the last line."""
    starts, ends = [], []
    floor = 0  # the first line that belongs to no statement yet
    for place, first in enumerate(firsts):
        start = first - 1
        while start > floor and _is_comment_or_blank(lines[start - 1]):
            start -= 1
        while start < first - 1 and not lines[start].strip():
            start += 1
        starts.append(start)
        floor = end = lasts[place]
        following = firsts[place + 1] - 1 if place + 1 < len(firsts) else len(lines)
        while end < following and lines[end].lstrip().startswith("#"):
            end += 1
        is_last = place + 1 == len(firsts)
        if is_last:
            end = len(lines)
        elif end == following:  # they stand directly above the next statement: they are its own
            end = lasts[place]
            while end < following and lines[end].startswith((" ", "\t")):
                end += 1
        floor = max(floor, end)
        ends.append(end)
    return starts, ends


def _is_comment_or_blank(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped.startswith("#")


def _cut(lines: list[str], begin: _Position, end: tuple[int, int | None]) -> str:
    """Return the text between two places; columns are those of ``ast``: bytes of UTF-8."""
    part = lines[begin[0] - 1 : end[0]]
    part[-1] = part[-1].encode()[: end[1]].decode()
    part[0] = part[0].encode()[begin[1] :].decode()
    return "\n".join(part)


def _bound_by(alias: ast.alias, node: ast.Import | ast.ImportFrom) -> str:
    if alias.asname:
        return alias.asname
    return alias.name.split(".")[0] if isinstance(node, ast.Import) else alias.name
