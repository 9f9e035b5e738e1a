"""Finds what looks like a credential in a text, without ever repeating it."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
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
    lower = text.lower()
    for kind, match in _formats_in(text, lower):
        yield _at(match, kind)
    for match in _BARE_FORMAT.finditer(text):
        yield _at(match, list(_BARE_FORMATS)[int((match.lastgroup or "f0")[1:])])
    split = _MAY_BE_SPLIT.search(text)
    named = any(hint in lower for hint in _HINTS)
    if named:
        yield from _by_pairs(text)
    for part in ast.walk(ast.parse(text)) if split or named else ():
        if split and isinstance(part, ast.Constant | ast.BinOp):
            yield from _by_whole_text(part)
        for name, value in _named_values(part):
            if is_secret_name(name) and _could_be_secret(value.value):
                yield Finding(name=name, line=value.lineno, why=f"the name {name!r} says so")
        if isinstance(part, ast.Call):
            yield from _by_argument(part)


_WORD = (
    r"pass(?:word|wd|phrase|code|wort)?|kennwort|pwd|pw|secret|token"
    r"|api[-_]?key|access[-_]?key|private[-_]?key|secret[-_]?key|auth[-_]?key|signing[-_]?key|encryption[-_]?key|credential|credentials|bearer|auth|authorization"
    r"|(?:access|api|auth|bearer|refresh)token|(?:app|client)secret"
    r"|apikey|accountkey|sharedaccesskey|connection[-_]?string|jwt"
)
_LAST_WORDS = re.compile(rf"(?:(?:^|_)(?:{_WORD})|password|passwd)s?$", re.IGNORECASE)
_URL = "a URL with a password"
# Key formats whose makers publish them: what each holds in small letters, and the format itself.
_FORMATS = {
    "an AWS access key": (
        "akia asia abia acca a3t",
        r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}\b",
    ),
    "a GitHub token": (
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9_]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    ),
    "a GitLab token": (
        "glpat- gldt- glft- glsoat- glrt- glcbt- glimt- glptt- glagent- gloas- gr1348941",
        r"\b(?:gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-|GR1348941)[\w-]{16,}",
    ),
    "an API key (sk-…)": ("sk-", r"\bsk-[A-Za-z0-9_-]{16,}"),
    "a Stripe key": ("k_live_ k_test_", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    "a Slack token": ("xox", r"\b[xX][oO][xX][A-Za-z]-[A-Za-z0-9-]{10,}"),
    "a Slack webhook": ("hooks.slack", r"(?i:hooks\.slack\.com/services/)[\w/]{20,}"),
    "a Google API key": ("aiza", r"\bAIza[A-Za-z0-9_-]{30,}"),
    "a Google OAuth token": ("ya29.", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    "a Hugging Face token": ("hf_", r"\bhf_[A-Za-z0-9]{20,}"),
    "an npm token": ("npm_", r"\bnpm_[A-Za-z0-9]{30,}"),
    "a PyPI token": ("pypi-", r"\bpypi-[A-Za-z0-9_-]{30,}"),
    "a SendGrid key": ("sg.", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    "a DigitalOcean token": ("_v1_", r"\bdo[opr]_v1_[a-f0-9]{40,}"),
    "a Prefect API key": ("pnu_ pnb_", r"\bpn[ub]_[A-Za-z0-9]{30,}"),
    "a Google client secret": ("gocspx-", r"\bGOCSPX-[\w-]{20,}"),
    "a Stripe webhook secret": ("whsec_", r"\bwhsec_[A-Za-z0-9+/=]{24,}"),
    "a Slack app token": ("xapp-", r"\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]+"),
    "a Databricks token": ("dapi", r"\bdapi[a-f0-9]{32}\b"),
    "a Vault token": ("hvs. hvb. hvr.", r"\bhv[sbr]\.[\w-]{24,}"),
    "a Linear key": ("lin_api lin_oauth", r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    "a Notion token": ("secret_ ntn_", r"\b(?:secret_[A-Za-z0-9]{43}|ntn_[A-Za-z0-9]{40,})\b"),
    "a Shopify token": ("shpat_ shpca_ shppa_ shpss_", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    "a Postman key": ("pmak-", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    "a New Relic key": ("nrak-", r"\bNRAK-[A-Z0-9]{27}\b"),
    "a Grafana token": ("glsa_ glc_", r"\bgl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    "an age key": ("age-secret-key", r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    "a Groq key": ("gsk_", r"\bgsk_[A-Za-z0-9]{40,}"),
    "a Perplexity key": ("pplx-", r"\bpplx-[A-Za-z0-9]{40,}"),
    "an xAI key": ("xai-", r"\bxai-[A-Za-z0-9]{60,}"),
    "a Replicate token": ("r8_", r"\br8_[A-Za-z0-9]{37}\b"),
    "a Tavily key": ("tvly-", r"\btvly-[A-Za-z0-9-]{28,}"),
    "a LangSmith key": ("lsv2_", r"\blsv2_(?:pt|sk)_[a-f0-9]{32}"),
    "a Pinecone key": ("pcsk_", r"\bpcsk_[A-Za-z0-9_]{40,}"),
    "a Contentful token": ("cfpat-", r"\bCFPAT-[\w-]{40,}"),
    "a Docker token": ("dckr_", r"\bdckr_(?:pat|oat)_[\w-]{20,}"),
    "a Sentry token": ("sntry", r"\bsntry[su]_[\w+/=-]{30,}"),
    "an Atlassian token": ("atatt3", r"\bATATT3[\w=-]{50,}"),
    "a Doppler token": ("dp.", r"\bdp\.(?:pt|st|ct|sa)\.[A-Za-z0-9.]{40,}"),
    "a Terraform token": (".atlasv1.", r"\b[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}"),
    "a Supabase token": ("sbp_", r"\bsbp_[a-f0-9]{40}"),
    "a Figma token": ("figd_", r"\bfigd_[\w-]{38,}"),
    "a signed Azure URL": ("sig=", r"[?&]sig=[A-Za-z0-9%+/]{40,}"),
    "a JSON web token": ("eyj", r"\b(?=eyJ[\w.+/=-]{17})eyJ[\w=-]+\.[\w=-]"),
    "a private key": (
        "begin putty-user-key",
        r"\bBEGIN [A-Z0-9 ]*PRIVATE KEY|\bPuTTY-User-Key-File-[0-9]",
    ),
    "an HTTP credential": (
        "bearer basic token",
        r"\b(?:Bearer|Basic|Token)\s+(?!token\b)[A-Za-z0-9+/_.=-]{12,}",
    ),
    _URL: (
        "://",
        r"(?:\b[a-z][a-z0-9+.-]*|\})://(?:[^\s/:@{}'\"<>]*|\{[^\s{}]*\})"
        r":[^\s/@{}'\"<>*]+@[\w\[{]",
    ),
    "an Azure storage key": ("accountkey=", r"AccountKey=[A-Za-z0-9+/=]{60,}"),
    "a Square secret": ("sq0", r"\bsq0[a-z]{3}-[\w\\-]{22,}"),
    "a Mailchimp key": ("-us", r"\b[0-9a-z]{32}-us[0-9]{1,2}\b"),
    "an Airtable token": ("pat", r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    "an Artifactory key": ("akc", r"\bAKC[A-Za-z0-9]{10,}"),
}
# Those that no word gives away: looked for in every text, all at once.
_BARE_FORMATS = {
    "a Twilio key": r"\b(?:AC|SK)[a-z0-9]{32}\b",
    "a Telegram token": r"\b[0-9]{8,10}:[\w-]{35}(?![\w-])",
    "a Discord token": r"\b[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}",
}
_BARE_FORMAT = re.compile(
    "|".join(f"(?P<f{place}>{one})" for place, one in enumerate(_BARE_FORMATS.values()))
)
# password=… within a connection string, a URL's query or a comment.
_PAIR = re.compile(
    rf"(?:{_WORD})['\"]?[ \t]*[:=][ \t]*(?P<quote>['\"]?)(?P<value>[^\s,;&'\"{{}}()<>\[\]]+)",
    re.IGNORECASE,
)
# Without one of these no rule for names can hold; most texts are done with after this look.
_HINTS = (
    *("pass", "kennwort", "pwd", "secret", "token", "key", "credential", "bearer", "auth"),
    *("connect", "login", "client", "session", "api", "jwt", "pw =", "pw=", "pw:", "pw'", 'pw"'),
)
# 'ghp_…' '…', which Python puts together, and letters that are written as numbers.
_MAY_BE_SPLIT = re.compile(
    r"[^\s(\[{,='\"]['\"]\s*[\\+]?\s*[rbuf]?['\"][\w.-]|\\(?:x[0-9a-f]{2}){4}", re.I
)
_PLACEHOLDER = re.compile(
    r"^(?:|\*+|x+|\.+|…|-+|none|null|true|false|str|bytes|int|todo|tbd|example.*|dummy|secret"
    r"|password|token|changeme|change[-_]me|your[-_ ].*|<.*>|\{.*\}|\$\w+|\$\{.*\}"
    r"|%\(?.*|env|environ.*|os\.(?:environ|getenv).*|(?-i:[A-Z]+(?:_[A-Z]+)+))$",
    re.IGNORECASE,
)
_DECLARED = frozenset(("SecretStr", "SecretBytes", "Secret"))
_AUTH_CALL = re.compile(r"login|auth|connect|client|credential|session|token|password|api", re.I)


def _formats_in(text: str, lower: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield the formats of keys that a text holds, each with its place."""
    for kind, (hints, pattern) in _FORMATS.items():
        if any(hint in lower for hint in hints.split()):
            for match in re.finditer(pattern, text):
                if kind != _URL or not _is_placeholder_url(match.group()):
                    yield kind, match


def _by_pairs(text: str) -> Iterator[Finding]:
    for match in _PAIR.finditer(text):
        start = text.rfind("\n", 0, match.start()) + 1
        row, place = text[start : match.end()], match.start() - start
        word = re.match(rf"(?:{_WORD})", match.group(), re.IGNORECASE)
        before = re.search(r"[A-Za-z0-9_-]*$", row[:place])
        name = f"{before[0] if before else ''}{word[0] if word else ''}"
        quoted = bool(match["quote"])
        if (
            is_secret_name(name)
            and _in_text_or_comment(row, place, only_comment=quoted)
            and _could_be_secret(match["value"])
            and not _is_code(match["value"])
        ):
            line = text.count("\n", 0, start) + 1
            yield Finding(name=name, line=line, why=f"a value follows {name!r}")


def _at(match: re.Match[str], kind: str) -> Finding:
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


def _in_text_or_comment(line: str, place: int, *, only_comment: bool) -> bool:
    """Tell whether a place on a line is in a comment or a string: code is read from its tree."""
    before = line[:place]
    if "#" in before or only_comment:
        return "#" in before
    return before.count('"') % 2 == 1 or before.count("'") % 2 == 1


def _by_whole_text(node: ast.Constant | ast.BinOp) -> Iterator[Finding]:
    """Look for formats in what pieces of text are once they are put together."""
    text = _joined(node)
    for kind, _ in _formats_in(text, text.lower()) if text else ():
        yield Finding(name="", line=node.lineno, why=f"it holds {kind}")


def _joined(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = (_joined(node.left), _joined(node.right))
        return None if None in parts else "".join(map(str, parts))
    return None


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
        named = [one.value for one in node.keywords if one.arg in _GIVES]  # Field(default="…")
        return [found for part in [*node.args[first:], *named] for found in _texts_in(part)]
    return []


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
