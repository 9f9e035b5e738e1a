"""Finds what looks like a credential in a text, without ever repeating it."""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pulpo.carry.formats import formats_in

__all__ = ["Finding", "find_secrets", "is_secret_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Where something looks like a credential: the name it goes by and the line in the text."""

    name: str
    line: int
    why: str


def find_secrets(text: str) -> Iterator[Finding]:
    """Yield what looks like a credential in Python text, comments included.

    Parameters
    ----------
    text
        Valid Python.
    """
    for kind, place in formats_in(text, _PLACEHOLDER):
        line = text.count("\n", 0, place) + 1
        yield Finding(name=_name_on_line(text, place), line=line, why=f"it holds {kind}")
    lower = text.lower()
    split = _MAY_BE_SPLIT.search(text) is not None
    if not split and not any(hint in lower for hint in _HINTS):
        return
    yield from _in_tree(ast.parse(text), split=split)
    for line, comment in _comments(text) if "#" in text else ():
        yield from _in_comment(comment, line)


# Without one of these no rule for names can hold; most texts are done with after this look.
_HINTS = (
    *("pass", "kennwort", "pwd", "secret", "token", "key", "credential", "bearer", "auth"),
    *("connect", "login", "client", "session", "api", "jwt", "pw =", "pw=", "pw:", "pw'", 'pw"'),
    *("fernet", "hmac", "url.create"),
)
# 'ghp_…' '…', which Python puts together, and letters that are written as numbers.
_MAY_BE_SPLIT = re.compile(
    r"[^\s(\[{,='\"]['\"]\s*[\\+]?\s*[rbuf]?['\"][\w.-]|(?:\\x[0-9a-f]{2}){4}", re.IGNORECASE
)
_WORD = (
    r"pass(?:word|wd|phrase|code|wort)?|kennwort|pwd|pw|secret|token|jwt|bearer"
    r"|(?:api|access|private|secret|auth|signing|encryption|account|sharedaccess)[-_]?key"
    r"|credentials?|auth|authorization|connection[-_]?string"
    r"|(?:access|api|auth|bearer|refresh)token|(?:app|client)secret"
)
_LAST_WORDS = re.compile(rf"(?:(?:^|_)(?:{_WORD})|password|passwd)s?$", re.IGNORECASE)
# Names that are many things besides: of these a value has to look like no word.
_LOOSE = re.compile(r"(?i)(?:tokens|passes|auths|_pass)$")
_NUMBERS = re.compile(r"(?i)(?:password|passwd|passwort|kennwort|pwd|passcode)$")
_PHRASES = re.compile(r"(?i)passphrase$")
# password=… within a connection string, a URL's query, JSON, a command or a comment.
_PAIR = re.compile(
    rf"(?P<word>{_WORD})(?P<how>['\"]?[ \t]*[:=][ \t]*['\"]?)(?P<value>[^\s,;&'\"{{}}()<>\[\]]+)"
    rf"|--[\w-]*?(?P<option>{_WORD})[ =]['\"]?(?P<given>[^\s'\"{{}}$<-][^\s'\"{{}}]*)",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"^(?:|\*+|x+|\.+|…|-+|none|null|true|false|str|string|text|bytes|int|todo|tbd|example.*|dummy"
    r"|secret|password|token|object|category|bool(?:ean)?|date|(?:float|int)\d\d|varchar.*|required|optional|missing|hidden|redacted|masked|changeme"
    r"|change[-_]me|your[-_ ].*|<.*>|\{.*\}|\$\w+|\$\{.*\}|:\w+|@\w+|\?"
    r"|%\(?.*|env|environ.*|os\.(?:environ|getenv).*|(?-i:[A-Z]+(?:_[A-Z]+)+))$",
    re.IGNORECASE,
)
_IS_A_PATH = re.compile(r"(?:~|\.{1,2})?/[\w./-]*|[\w-]+(?:/[\w.-]+)+\.\w{1,8}|arn:.*")
_DECLARED = frozenset(("SecretStr", "SecretBytes", "Secret"))
_AUTH_CALL = re.compile(r"login|auth|connect|client|credential|session|token|password|api", re.I)
#: Which argument is the credential in what is called like this.
_POSITIONS = {
    **dict.fromkeys(("HTTPBasicAuth", "HTTPDigestAuth", "HTTPProxyAuth", "BasicAuth", "login"), 1),
    **dict.fromkeys(("hmac.new", "Fernet"), 0),
    **dict.fromkeys(("jwt.encode", "jwt.decode"), 1),
    "URL.create": 2,
}


def _in_tree(tree: ast.AST, *, split: bool = False) -> Iterator[Finding]:
    """Find what names say, what calls are given, and pairs within texts."""
    for part in ast.walk(tree):
        if isinstance(part, ast.Constant) and isinstance(part.value, str | bytes):
            yield from _in_text(_plain(part.value), part.lineno)
        if split and isinstance(part, ast.Constant | ast.BinOp):
            for kind, _ in formats_in(_joined(part) or "", _PLACEHOLDER):
                yield Finding(name="", line=part.lineno, why=f"it holds {kind}")
        for name, value in _named_values(part):
            if is_secret_name(name) and _could_be_secret(value.value, name):
                yield Finding(name=name, line=value.lineno, why=f"the name {name!r} says so")
        if isinstance(part, ast.Call):
            yield from _by_argument(part)


def _in_comment(comment: str, line: int) -> Iterator[Finding]:
    """Look into a comment as a text, and as code that was commented out."""
    yield from _in_text(comment, line)
    try:
        tree = ast.parse(comment.strip())
    except (SyntaxError, ValueError):
        return
    for found in _in_tree(tree):
        yield Finding(name=found.name, line=line, why=found.why)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("#")


def _in_text(text: str, line: int) -> Iterator[Finding]:
    """Find ``password=…`` in what a text says."""
    if len(text) < 8 or not any(hint in text.lower() for hint in _HINTS):
        return
    for match in _PAIR.finditer(text):
        word, value = match["word"] or match["option"], match["value"] or match["given"]
        before = re.search(r"[\w:.-]*\Z", text[: match.start()])
        name = f"{before[0] if before else ''}{word}"
        if not is_secret_name(name.rpartition(":")[2]) or name.startswith("arn:"):
            continue
        # 'token: missing' is prose.
        written = match["option"] or "=" in match["how"] or match["how"].strip()[-1] in "'\""
        told = written or any(map(str.isdigit, value))
        if told and _could_be_secret(value, name) and not _is_code(value):
            at = line + text.count("\n", 0, match.start())
            yield Finding(name=name.lstrip("-"), line=at, why=f"a value follows {name!r}")


def _name_on_line(text: str, place: int) -> str:
    start = text.rfind("\n", 0, place) + 1
    match = re.match(r"\s*([\w.]+)\s*(?::[^=]*)?=(?!=)", text[start:place])
    return match[1] if match else ""


def _joined(node: ast.AST) -> str | None:
    """Return a text that Python puts together from parts."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = (_joined(node.left), _joined(node.right))
        return None if None in parts else "".join(map(str, parts))
    return None


def _is_code(value: str) -> bool:
    return bool(re.match(r"(?:os|self|settings|config|args)\.|str\b|None\b", value))


_Pair = tuple[ast.AST | str | None, ast.AST | None]


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.Constant]]:
    """Yield the names of a node that are given values, however they are given them."""
    pairs: list[_Pair] = []
    if isinstance(node, ast.Assign):
        pairs = [(target, node.value) for target in node.targets]
        for left in node.targets:
            if isinstance(left, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs += zip(left.elts, node.value.elts, strict=False)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        pairs = [(node.target, node.value)]
    elif isinstance(node, ast.keyword):
        pairs = [(node.arg, node.value)]
    elif isinstance(node, ast.Dict):
        pairs = list(zip(node.keys, node.values, strict=True))
    elif isinstance(node, ast.Compare):
        both = (node.left, node.comparators[0])
        known = [part.value for part in both if isinstance(part, ast.Constant)]
        if any(any(map(str.isdigit, _plain(one))) for one in known):  # not token == "def"
            pairs = [both, both[::-1]]
    elif isinstance(node, ast.arguments):
        named = [*node.posonlyargs, *node.args]
        last = named[len(named) - len(node.defaults) :]
        pairs = [(one.arg, value) for one, value in zip(last, node.defaults, strict=True)]
        pairs += [
            (one.arg, value) for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)
        ]
    elif isinstance(node, ast.Call):
        pairs = _pairs_of_call(node)
    for target, value in pairs:
        name = target if isinstance(target, str) else _name_of(target)
        for constant in _values_in(value):
            yield name, constant


def _pairs_of_call(node: ast.Call) -> list[_Pair]:
    """Read ``os.getenv("TOKEN", "…")``, ``setattr(c, "token", "…")`` and ``setdefault``."""
    args = node.args[1:] if _name_of(node.func) == "setattr" else node.args
    if len(args) == 2 and isinstance(args[0], ast.Constant):
        return [(args[0], args[1])]
    return []


def _values_in(node: ast.AST | None) -> list[ast.Constant]:
    """Return the texts and numbers that an expression may give."""
    parts: Iterable[ast.AST | None] = ()
    if isinstance(node, ast.Constant):
        is_one = isinstance(node.value, str | bytes | int) and not isinstance(node.value, bool)
        return [node] if is_one else []
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        parts = node.elts
    elif isinstance(node, ast.Dict):
        parts = [
            value
            for key, value in zip(node.keys, node.values, strict=True)
            if not is_secret_name(_name_of(key))  # which is looked at by itself
        ]
    elif isinstance(node, ast.BinOp):
        parts = (node.left, node.right)
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.IfExp):
        parts = (node.body, node.orelse)
    elif isinstance(node, ast.Call):  # SecretStr("…"), b64decode("…"), os.getenv("TOKEN", "…")
        method = node.func if isinstance(node.func, ast.Attribute) else None
        is_text = method is not None and isinstance(method.value, ast.Constant)
        if method is not None and (is_text or method.attr in _OF_TEXTS):  # "…".strip()
            return _values_in(method.value)
        first = 1 if method is not None and method.attr in _LOOK_UPS else 0
        named = [one.value for one in node.keywords if one.arg in _GIVES]  # Field(default="…")
        parts = [*node.args[first:], *named]
    return [found for part in parts for found in _values_in(part)]


_OF_TEXTS = frozenset(("encode", "decode", "strip", "lstrip", "rstrip", "split", "replace"))
_GIVES = frozenset(("default", "value"))
_LOOK_UPS = frozenset(("getenv", "get", "pop", "setdefault", "prompt", "getpass", "input"))


def _name_of(node: ast.AST | None) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name_of(node.slice)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ""


def is_secret_name(name: str) -> bool:
    """Tell whether a name says that it holds a credential."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("-", "_").replace(" ", "_"))
    return bool(_LAST_WORDS.search(words))


def _could_be_secret(value: object, name: str) -> bool:
    text = _plain(value).strip()
    if isinstance(value, int):
        return bool(_NUMBERS.search(name)) and len(text) >= 4
    if len(text) < 4 or _PLACEHOLDER.match(text) or _IS_A_PATH.fullmatch(text):
        return False
    if any(mark.isspace() for mark in text):
        return bool(_PHRASES.search(name))
    has_digit = any(map(str.isdigit, text))
    if not has_digit and (is_secret_name(text) or _LOOSE.search(name)):
        return False  # {"password": "db_password"}
    return not re.fullmatch(r"https?://[^@]*", text)


def _plain(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _by_argument(node: ast.Call) -> Iterator[Finding]:
    """Find ``Client("…random…")``: text in a call that signs in, if it looks like no word."""
    called = _name_of(node.func)
    if called in _DECLARED:
        for constant in (text for part in node.args for text in _values_in(part)):
            if constant.value:
                yield Finding(name=called, line=constant.lineno, why=f"{called!r} says so")
        return
    place = _POSITIONS.get(ast.unparse(node.func)[-20:], _POSITIONS.get(called))
    given = node.args[place : place + 1] if place is not None else []
    for constant in (value for part in given for value in _values_in(part)):
        if _could_be_secret(constant.value, called):
            yield Finding(name=called, line=constant.lineno, why=f"it is passed to {called!r}")
    if not _AUTH_CALL.search(called):
        return
    for part in (*node.args, *(one.value for one in node.keywords if one.arg == "key")):
        for constant in _values_in(part):
            if _is_random(constant.value):
                why = f"a random text is passed to {called!r}"
                yield Finding(name=called, line=constant.lineno, why=why)


def _is_random(value: object) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/_=.-]{16,}", value):
        return False
    if not any(_is_mixed(part) for part in re.split(r"[/_.-]", value)):
        return False  # data/jobs_2024_final.parquet
    kinds = [any(map(test, value)) for test in (str.isdigit, str.isupper, str.islower)]
    counts = Counter(value).values()
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return sum(kinds) >= 2 and kinds[0] and entropy > 3.2


def _is_mixed(text: str) -> bool:
    return len(text) >= 8 and any(map(str.isdigit, text)) and any(map(str.isalpha, text))
