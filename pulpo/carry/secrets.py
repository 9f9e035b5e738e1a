"""Finds what looks like a credential in a text, without ever repeating it."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
    for match in _BARE_FORMAT.finditer(text):
        yield _of_format(_BARE_FORMATS, match)
    if not _HINTS.search(text.lower()):
        return
    yield from _by_format(text)
    node = ast.parse(text)
    for part in ast.walk(node):
        for name, value in _named_values(part):
            if is_secret_name(name) and _could_be_secret(value.value):
                yield Finding(name=name, line=value.lineno, why=f"the name {name!r} says so")
        if isinstance(part, ast.Call):
            yield from _by_argument(part)


_WORD = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|secret[-_]?key"
    r"|auth[-_]?key|signing[-_]?key|encryption[-_]?key|credential|credentials|bearer|auth|authorization"
    r"|apikey|accountkey|sharedaccesskey|connection[-_]?string|jwt"
)
_LAST_WORDS = re.compile(rf"(?:^|_)(?:{_WORD})s?$", re.IGNORECASE)
# Key formats whose makers publish them.
_FORMATS = {
    "an AWS access key": r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9_]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"\b(?:gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-|GR1348941)[\w-]{16,}",
    "an API key (sk-…)": r"\bsk-[A-Za-z0-9_-]{16,}",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "a Slack token": r"\b[xX][oO][xX][A-Za-z]-[A-Za-z0-9-]{10,}",
    "a Slack webhook": r"(?i:hooks\.slack\.com/services/)[\w/]{20,}",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{30,}",
    "a Google OAuth token": r"\bya29\.[A-Za-z0-9_-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{30,}",
    "a PyPI token": r"\bpypi-[A-Za-z0-9_-]{30,}",
    "a SendGrid key": r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "a DigitalOcean token": r"\bdo[opr]_v1_[a-f0-9]{40,}",
    "a Prefect API key": r"\bpn[ub]_[A-Za-z0-9]{30,}",
    "a JSON web token": r"\b(?=eyJ[\w.+/=-]{17})eyJ[\w=-]+\.[\w=-]",
    "a private key": r"\bBEGIN [A-Z0-9 ]*PRIVATE KEY|\bPuTTY-User-Key-File-[0-9]",
    "an HTTP credential": r"\b(?:Bearer|Basic|Token)\s+(?!token\b)[A-Za-z0-9+/_.=-]{12,}",
    "a URL with a password": r"\b[a-z][a-z0-9+.-]*://[^\s/:@{}'\"<>]*:[^\s/@{}'\"<>*]+@[\w\[]",
}
# Those that no word gives away: looked for in every text, by themselves.
_BARE_FORMATS = {
    "an Azure storage key": r"AccountKey=[A-Za-z0-9+/=]{60,}",
    "a Square secret": r"\bsq0[a-z]{3}-[\w\\-]{22,}",
    "a Twilio key": r"\b(?:AC|SK)[a-z0-9]{32}\b",
    "a Mailchimp key": r"\b[0-9a-z]{32}-us[0-9]{1,2}\b",
    "a Telegram token": r"\b[0-9]{8,10}:[\w-]{35}(?![\w-])",
    "a Discord token": r"\b[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}",
    "an Artifactory key": r"\bAKC[A-Za-z0-9]{10,}",
}


def _any_of(formats: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<f{i}>{one})" for i, one in enumerate(formats.values())))


_FORMAT, _BARE_FORMAT = _any_of(_FORMATS), _any_of(_BARE_FORMATS)
# password=… within a connection string, a URL's query or a comment.
_PAIR = re.compile(
    rf"(?P<name>[A-Za-z0-9_-]*(?:{_WORD}))(?:['\"]?\s*[:=]\s*)(?P<value>[^\s,;&'\"{{}}()<>\[\]]+)",
    re.IGNORECASE,
)
# Without one of these no rule can hold; most texts are done with after this look.
_HINTS = re.compile(
    "pass|pwd|secret|token|key|credential|bearer|auth|basic|connect|login|client|session|api|jwt"
    "|akia|asia|gh[opusr]_|github_pat_|glpat-|sk-|k_live_|k_test_|xox|hooks.slack|aiza|ya29|hf_"
    r"|npm_|pypi-|sg\.|_v1_|pn[ub]_|eyj|://|gl[a-z]+-|gr1348941|abia|acca|a3t"
)
_PLACEHOLDER = re.compile(
    r"^(?:|\*+|x+|\.+|…|-+|none|null|true|false|str|bytes|int|todo|tbd|example.*|dummy|secret"
    r"|password|token|changeme|change[-_]me|your[-_ ].*|<.*>|\{.*\}|\$\w+|\$\{.*\}"
    r"|%\(?.*|env|environ.*|os\.(?:environ|getenv).*|(?-i:[A-Z]+(?:_[A-Z]+)+))$",
    re.IGNORECASE,
)
_DECLARED = frozenset(("SecretStr", "SecretBytes", "Secret"))
_AUTH_CALL = re.compile(r"login|auth|connect|client|credential|session|token|password|api", re.I)


def _by_format(text: str) -> Iterator[Finding]:
    for match in _FORMAT.finditer(text):
        found = _of_format(_FORMATS, match)
        if "a URL with a password" not in found.why or not _is_placeholder_url(match.group()):
            yield found
    for number, row in enumerate(text.split("\n"), 1):
        for match in _PAIR.finditer(row):
            name, value = match["name"], match["value"]
            if (
                is_secret_name(name)
                and _in_text_or_comment(row, match.start())
                and _could_be_secret(value)
                and not _is_code(value)
            ):
                yield Finding(name=name, line=number, why=f"a value follows {name!r}")


def _of_format(formats: Mapping[str, str], match: re.Match[str]) -> Finding:
    kind = list(formats)[int((match.lastgroup or "f0")[1:])]
    text, place = match.string, match.start()
    line = text.count("\n", 0, place) + 1
    return Finding(name=_name_on_line(text, place), line=line, why=f"it holds {kind}")


def _is_placeholder_url(url: str) -> bool:
    password = url.rsplit("@", 1)[0].rsplit(":", 1)[-1]
    return bool(_PLACEHOLDER.match(password)) and password.lower() not in ("secret", "password")


def _name_on_line(text: str, place: int) -> str:
    start = text.rfind("\n", 0, place) + 1
    match = re.match(r"\s*([\w.]+)\s*(?::[^=]*)?=(?!=)", text[start:place])
    return match[1] if match else ""


def _in_text_or_comment(line: str, place: int) -> bool:
    """Tell whether a place on a line is in a comment or a string: code is read from its tree."""
    before = line[:place]
    return "#" in before or before.count('"') % 2 == 1 or before.count("'") % 2 == 1


def _is_code(value: str) -> bool:
    return bool(re.match(r"(?:os|self|settings|config|args)\.|str\b|None\b", value))


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.Constant]]:
    """Yield the names of a node that are given text, however they are given it."""
    pairs: list[tuple[ast.AST | str | None, ast.AST | None]] = []
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
        pairs = [(node.left, node.comparators[0])]
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
        for constant in _texts_in(value):
            yield name, constant


def _pairs_of_call(node: ast.Call) -> list[tuple[ast.AST | str | None, ast.AST | None]]:
    """Read ``os.getenv("TOKEN", "…")`` and ``headers.setdefault("Authorization", "…")``."""
    if len(node.args) == 2 and isinstance(node.args[0], ast.Constant):
        return [(node.args[0], node.args[1])]
    return []


def _texts_in(node: ast.AST | None) -> list[ast.Constant]:
    if isinstance(node, ast.Constant):
        return [node] if isinstance(node.value, str | bytes) else []
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return [found for part in node.elts for found in _texts_in(part)]
    if isinstance(node, ast.BinOp):
        return [*_texts_in(node.left), *_texts_in(node.right)]
    if isinstance(node, ast.BoolOp):
        return [found for part in node.values for found in _texts_in(part)]
    if isinstance(node, ast.Call):  # SecretStr("…"), b64decode("…"), os.getenv("TOKEN", "…")
        first = 1 if isinstance(node.func, ast.Attribute) and node.func.attr in _LOOK_UPS else 0
        return [found for part in node.args[first:] for found in _texts_in(part)]
    return []


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


def _could_be_secret(value: object) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if len(text) < 4 or _PLACEHOLDER.match(text):
        return False
    return not any(mark.isspace() for mark in text) and not re.fullmatch(r"https?://[^@]*", text)


def _by_argument(node: ast.Call) -> Iterator[Finding]:
    """Find ``Client("…random…")``: text in a call that signs in, if it looks like no word."""
    called = _name_of(node.func)
    if called in _DECLARED:
        for constant in (text for part in node.args for text in _texts_in(part)):
            if constant.value:
                yield Finding(name=called, line=constant.lineno, why=f"{called!r} says so")
        return
    if not _AUTH_CALL.search(called):
        return
    for part in node.args:
        for constant in _texts_in(part):
            if _is_random(constant.value):
                why = f"a random text is passed to {called!r}"
                yield Finding(name=called, line=constant.lineno, why=why)


def _is_random(value: object) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/_=.-]{16,}", value):
        return False
    kinds = [any(map(test, value)) for test in (str.isdigit, str.isupper, str.islower)]
    counts = Counter(value).values()
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return sum(kinds) >= 2 and kinds[0] and entropy > 3.2
