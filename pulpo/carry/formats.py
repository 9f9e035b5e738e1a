"""The formats of keys, tokens and logins, as their makers publish them."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["formats_in"]

_URL, _CURL = "a URL with a password", "a login for curl"
# What each holds, in small letters, and the format itself.
_FORMATS: dict[str, tuple[tuple[str, ...], str]] = {
    "an AWS access key": (
        ("akia", "asia", "abia", "acca", "a3t"),
        r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}\b",
    ),
    "a GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9_]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    ),
    "a GitLab token": (
        ("gl", "gr1348941"),
        r"\b(?:gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-|GR1348941)[\w-]{16,}",
    ),
    "an API key (sk-…)": (("sk-",), r"\bsk-[A-Za-z0-9_-]{16,}"),
    "a Stripe key": (("k_live_", "k_test_"), r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    "a Slack token": (("xox",), r"\b[xX][oO][xX][A-Za-z]-[A-Za-z0-9-]{10,}"),
    "a Slack webhook": (("hooks.slack",), r"(?i:hooks\.slack\.com/services/)[\w/]{20,}"),
    "a Google API key": (("aiza",), r"\bAIza[A-Za-z0-9_-]{30,}"),
    "a Google OAuth token": (("ya29.",), r"\bya29\.[A-Za-z0-9_-]{20,}"),
    "a Hugging Face token": (("hf_",), r"\bhf_[A-Za-z0-9]{20,}"),
    "an npm token": (("npm_",), r"\bnpm_[A-Za-z0-9]{30,}"),
    "a PyPI token": (("pypi-",), r"\bpypi-[A-Za-z0-9_-]{30,}"),
    "a SendGrid key": (("sg.",), r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    "a DigitalOcean token": (("_v1_",), r"\bdo[opr]_v1_[a-f0-9]{40,}"),
    "a Prefect API key": (("pnu_", "pnb_"), r"\bpn[ub]_[A-Za-z0-9]{30,}"),
    "a Google client secret": (("gocspx-",), r"\bGOCSPX-[\w-]{20,}"),
    "a Stripe webhook secret": (("whsec_",), r"\bwhsec_[A-Za-z0-9+/=]{24,}"),
    "a Slack app token": (("xapp-",), r"\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]+"),
    "a Databricks token": (("dapi",), r"\bdapi[a-f0-9]{32}\b"),
    "a Vault token": (("hvs.", "hvb.", "hvr."), r"\bhv[sbr]\.[\w-]{24,}"),
    "a Linear key": (("lin_api", "lin_oauth"), r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    "a Notion token": (
        ("secret_", "ntn_"),
        r"\b(?:secret_[A-Za-z0-9]{43}|ntn_[A-Za-z0-9]{40,})\b",
    ),
    "a Shopify token": (
        ("shpat_", "shpca_", "shppa_", "shpss_"),
        r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    ),
    "a Postman key": (("pmak-",), r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    "a New Relic key": (("nrak-",), r"\bNRAK-[A-Z0-9]{27}\b"),
    "a Grafana token": (("glsa_", "glc_"), r"\bgl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    "an age key": (("age-secret-key",), r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    "a Groq key": (("gsk_",), r"\bgsk_[A-Za-z0-9]{40,}"),
    "a Perplexity key": (("pplx-",), r"\bpplx-[A-Za-z0-9]{40,}"),
    "an xAI key": (("xai-",), r"\bxai-[A-Za-z0-9]{60,}"),
    "a Replicate token": (("r8_",), r"\br8_[A-Za-z0-9]{37}\b"),
    "a Tavily key": (("tvly-",), r"\btvly-[A-Za-z0-9-]{28,}"),
    "a LangSmith key": (("lsv2_",), r"\blsv2_(?:pt|sk)_[a-f0-9]{32}"),
    "a Pinecone key": (("pcsk_",), r"\bpcsk_[A-Za-z0-9_]{40,}"),
    "a Contentful token": (("cfpat-",), r"\bCFPAT-[\w-]{40,}"),
    "a Docker token": (("dckr_",), r"\bdckr_(?:pat|oat)_[\w-]{20,}"),
    "a Sentry token": (("sntry",), r"\bsntry[su]_[\w+/=-]{30,}"),
    "an Atlassian token": (("atatt3",), r"\bATATT3[\w=-]{50,}"),
    "a Doppler token": (("dp.",), r"\bdp\.(?:pt|st|ct|sa)\.[A-Za-z0-9.]{40,}"),
    "a Terraform token": ((".atlasv1.",), r"\b[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}"),
    "a Supabase token": (("sbp_",), r"\bsbp_[a-f0-9]{40}"),
    "a Figma token": (("figd_",), r"\bfigd_[\w-]{38,}"),
    "a signed Azure URL": (("sig=",), r"[?&]sig=[A-Za-z0-9%+/]{40,}"),
    "a JSON web token": (("eyj",), r"\b(?=eyJ[\w.+/=-]{17})eyJ[\w=-]+\.[\w=-]"),
    "a Discord webhook": (
        ("discord",),
        r"\bdiscord(?:app)?\.com/api/webhooks/\d+/[\w-]{40,}",
    ),
    "a Teams webhook": (("webhook.office",), r"\bwebhook\.office\.com/webhookb2/\S{40,}"),
    "a URL with a token": (("://",), r"://(?=[^@/\s]*\d)[A-Za-z0-9_-]{20,}@\w"),
    _CURL: (
        ("curl",),
        r"\bcurl\b.*?\s(?:-u|--user)[ =]['\x22]?[^\s:'\x22{]+:[^\s'\x22{]{4,}",
    ),
    "a password in SQL": (
        ("password '", "identified by '"),
        r"(?i)\b(?:password|identified by)\s+'[^'\s{:%]{4,}'",
    ),
    "a private key": (
        ("begin", "putty-user-key"),
        r"\bBEGIN [A-Z0-9 ]*PRIVATE KEY|\bPuTTY-User-Key-File-[0-9]",
    ),
    "an HTTP credential": (
        ("bearer", "basic", "token"),
        r"\b(?:Bearer|Basic|Token)\s+(?=\S*[0-9])[A-Za-z0-9+/_.=-]{12,}",
    ),
    _URL: (
        ("://",),
        r"(?:\b[a-z][a-z0-9+.-]*|\})://(?:[^\s/:@{}'\x22<>]*"
        r"|\{[^\s{}]*\}):[^\s/@{}'\x22<>*]+@[\w\[{]",
    ),
    "an Azure storage key": (("accountkey=",), r"AccountKey=[A-Za-z0-9+/=]{60,}"),
    "a Square secret": (("sq0",), r"\bsq0[a-z]{3}-[\w\\-]{22,}"),
    "a Mailchimp key": (("-us",), r"\b[0-9a-z]{32}-us[0-9]{1,2}\b"),
    "an Airtable token": (("pat",), r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    "an Artifactory key": (("akc",), r"\bAKC[A-Za-z0-9]{10,}"),
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
#: What documentation writes.
_NO_LOGIN = re.compile(
    r"(?i)[/ '](?:user|usr|username|login):(?:pass|password|pw|pwd|secret)(?:@|$)"
)


def formats_in(text: str, is_placeholder: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """Yield what a text holds that has the format of a credential, each with its place.

    Parameters
    ----------
    is_placeholder
        Matches what stands for a password and is none.
    """
    lower = text.lower()
    for kind, (hints, pattern) in _FORMATS.items():
        if any(hint in lower for hint in hints):
            for match in re.finditer(pattern, text):
                if kind not in (_URL, _CURL) or not _is_example(match.group(), is_placeholder):
                    yield kind, match.start()
    for match in _BARE_FORMAT.finditer(text):
        yield list(_BARE_FORMATS)[int((match.lastgroup or "f0")[1:])], match.start()


def _is_example(login: str, is_placeholder: re.Pattern[str]) -> bool:
    if _NO_LOGIN.search(login):
        return True
    password = login.rsplit("@", 1)[0].rsplit(":", 1)[-1]
    return password.lower() not in ("secret", "password") and bool(is_placeholder.match(password))
