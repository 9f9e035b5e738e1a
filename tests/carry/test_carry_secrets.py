"""Credentials do not leave the notebook, and no message repeats them."""

from __future__ import annotations

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulpo.carry.secrets import find_secrets
from pulpo.errors import SecretError

from .notebook import Notebook

# Put together here, so that no scanner takes this file for a leak.
GITHUB = "ghp" + "_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
AWS = "AKIA" + "IOSFODNN7EXAMPLQ"
RANDOM = "9fK2x" + "Lq81ZpTt0vRw37Yb"

SECRETS = {
    "a name": ("API_KEY = 'hunter22'", "API_KEY"),
    "a longer name": ("db_password: str = 'hunter22'", "db_password"),
    "camel case": ("apiKey = 'hunter22'", "apiKey"),
    "two at a time": ("user, password = 'me', 'hunter22'", "password"),
    "bytes": ("SECRET = b'hunter22'", "SECRET"),
    "a known format": (f"THING = '{GITHUB}'", "THING"),
    "another known format": (f"CONF = {{'id': '{AWS}'}}", "CONF"),
    "a URL": ("DB = 'postgresql://me:hunter22@db.example.org/jobs'", "DB"),
    "a query": ("URL = 'https://x.org/api?api_key=hunter22&q=1'", "api_key"),
    "a connection text": ("DSN = 'host=x user=me password=hunter22'", "password"),
    "a dict": ("HEADERS = {'X-Api-Key': 'hunter22'}", "X-Api-Key"),
    "a keyword": ("def op(): return dict(password='hunter22')", "password"),
    "a pair": ("def op(): return dict(auth=('me', 'hunter22'))", "auth"),
    "a positional argument": (f"def op(login=print): login('{RANDOM}')", "login"),
    "a default": ("def op(token='hunter22'): return token", "token"),
    "a keyword default": ("def op(*, token='hunter22'): return token", "token"),
    "a fallback": ("import os\nKEY = os.getenv('API_TOKEN', 'hunter22')", "API_TOKEN"),
    "a comparison": ("def op(password=None): return password == 'hunter22'", "password"),
    "a header": ("def op(): return {'Authorization': 'Bearer hunter22hunter22'}", ""),
    "a comment": ("# password: hunter22\nX = 1", "password"),
    "a comment in a body": ("def op():\n    # token = hunter22\n    return 1", "token"),
    "an attribute": ("class C: pass\nC.password = 'hunter22'", "password"),
    "a docstring": ("def op():\n    '''Call with password=hunter22.'''", "password"),
    "a URL with a name in it": ("DB = f'postgresql://me:hunter22@{HOST}/jobs'", "DB"),
    "a URL with two names in it": ("DB = f'{KIND}://{user}:hunter22@db/jobs'", "DB"),
    "a URL with a token": (f"REPO = 'https://{RANDOM}@github.com/me/x'", "REPO"),
    "a field's default": ("class C:\n    api_key: str = Field(default='hunter22')", "api_key"),
    "parts of a text": (f"THING = ('{GITHUB[:9]}'\n    '{GITHUB[9:]}')", ""),
    "a sum of texts": (f"THING = '{GITHUB[:9]}' + '{GITHUB[9:]}'", ""),
    "letters as numbers": (
        "THING = '" + "".join(f"\\x{ord(mark):02x}" for mark in GITHUB) + "'",
        "",
    ),
    "a choice": ("def op(n): password = 'hunter22' if n else ''", "password"),
    "a stripped text": ("password = 'hunter22 '.strip()", "password"),
    "a number": ("password = 12345678", "password"),
    "a dict of keys": ("API_KEYS = {'prod': 'hunter22'}", "API_KEYS"),
    "a phrase": ("passphrase = 'correct horse battery'", "passphrase"),
    "a variable of libpq": ("import os\nos.environ['PGPASSWORD'] = 'hunter22'", "PGPASSWORD"),
    "setattr": ("setattr(config, 'db_password', 'hunter22')", "db_password"),
    "the other way round": ("def op(password): return 'hunter22' == password", "password"),
    "a short name": ("PW = 'hunter22'", "PW"),
    "another language": ("passwort = 'hunter22'", "passwort"),
    "JSON": ('CONF = \'{"user": "me", "password": "hunter22"}\'', "password"),
    "YAML": ("CONF = '''\nuser: me\npassword: hunter22\n'''", "password"),
    "an option": ("COMMAND = 'tool --db-password hunter22 --verbose'", ""),
    "curl": ("COMMAND = 'curl -u me:hunter22 https://x.org'", ""),
    "SQL": ("SQL = \"CREATE USER me PASSWORD 'hunter22'\"", ""),
    "code in a comment": ("# get(url, auth=('me', 'hunter22'))\nX = 1", "auth"),
    "an assignment in a comment": ("def op():\n    # password = 'hunter22'\n    pass", "password"),
    "the second argument": ("def op(): HTTPBasicAuth('me', 'hunter22')", "HTTPBasicAuth"),
    "a login": ("def op(smtp): smtp.login('me@x.org', 'hunter22')", "login"),
    "a key": (f"def op(): wandb.login(key='{RANDOM}')", "login"),
    "bytes to sign with": ("def op(): return hmac.new(b'hunter22', b'x', 'sha256')", "new"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_credential_is_found_and_never_repeated(kind: str) -> None:
    text, name = SECRETS[kind]
    found = list(find_secrets(text))
    assert found
    assert not name or name in {one.name for one in found}
    for one in found:
        assert "hunter22" not in one.why
        assert GITHUB not in one.why


# --- What a library of key formats finds ----------------------------------------------------------
# It is no part of pulpo: docs/decisions/0008-credentials.md.

#: Detectors that go by the words around a value, or find what is none of our business.
NO_FORMATS = {
    "Artifactory Credentials": "half of it finds 'APDataFrame1'",
    "Basic Auth Credentials": "URLs: has rules of its own here",
    "Cloudant Credentials": "a name beside a value: has rules of its own here",
    "IBM Cloud IAM Key": "the same",
    "IBM COS HMAC Credentials": "the same",
    "SoftLayer Credentials": "the same",
    "Public IP (ipv4)": "no credential",
}
FORMATS = {
    f"{kind} {number}": pattern
    for kind, detector in get_mapping_from_secret_type_to_class().items()
    if issubclass(detector, RegexBasedDetector) and kind not in NO_FORMATS
    for number, pattern in enumerate(detector.denylist)
    if not pattern.pattern.startswith(("aws", r"\/\/.+\/:_authToken"))  # by the words around
}


@pytest.mark.parametrize("kind", sorted(FORMATS))
@given(data=st.data())
@settings(max_examples=5, suppress_health_check=[HealthCheck.filter_too_much])
def test_known_key_formats_are_found(kind: str, data: st.DataObject) -> None:
    samples = st.from_regex(FORMATS[kind], fullmatch=True, alphabet=st.characters(codec="ascii"))
    # Some patterns begin before a text is long enough to be a key.
    sample = data.draw(
        samples.filter(
            lambda text: (
                len(text) >= (58 if "hooks" in text.lower() else 20) or "KEY" in text.upper()
            )
        )
    )
    assert list(find_secrets(f"THING = {sample!r}\n")), sample


HARMLESS = [
    "password = ''",
    "password = None",
    "import os\npassword = os.environ['DB_PASSWORD']",
    "token = os.getenv('API_TOKEN')",
    "def op(password: str, token: str = ''): return login(password, token=token)",
    "TOKEN_URL = 'https://example.org/oauth/token'",
    "max_tokens = 100\ntokenizer = 'word'\nTOKENS = ['a', 'b']",
    "PASSWORD_FIELD = 'input[name=q]'",
    "API_KEY = '<your key>'\nSECRET = '***'\nAPI_TOKEN = 'your-token'",
    "URL = 'http://localhost:4200/api'\nOTHER = 'http://{user}:{password}@host'",
    "def op(user, password): return f'postgres://{user}:{password}@db'",
    "ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'",
    "CHECKSUM = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
    "keys = {'key': 'value', 'primary_key': 'id'}",
    "# the token is read from the environment\nX = 1",
    "AUTHOR = 'somebody'\nauthors = ['a', 'b']",
    "text = 'Forgot your password? Click here'",
    "def op(client): return client.get('/linkedin/api/jobs')",
    "SPECIAL_TOKENS = ['<pad>', '[CLS]', 'word']\ndef op(): return find(tokens=['word', 'other'])",
    "SCHEMA = {'password': 'string', 'token': 'varchar(20)', 'secret': 'object'}",
    "SQL = 'SELECT * FROM users WHERE password = :password AND token = %(token)s'",
    "MESSAGE = 'token: missing'\n# secret: never log this\nX = 1",
    "import sqlite3\ndef op(): return sqlite3.connect('data/jobs_2024_final.sqlite3')",
    "def op(): return filtered(first_pass='coarse', low_pass='butterworth')",
    "private_key = '~/.ssh/id_rsa'\ncredentials = 'conf/service_account.json'",
    "ARN = 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:jobs/db'",
    "COLUMNS = {'password': 'db_password', 'api_key': 'apiKey'}",
    "class Kind:\n    API_KEY = 'api_key'\n    PASSWORD = 'password'",
    "def op(token):\n    if token in ('def', 'class') or token == 'lambda': return 1",
    "# e.g. postgresql://user:password@localhost/db, or curl -u user:password https://x.org\nX = 1",
    "pwd = password.encode('utf-8') if isinstance(password, str) else password",
    "text = '''Basic infrastructure for clients and servers.'''",
    "user_id = 'd9b2d63d-a233-4123-847a-76838bf2d9b2'\ncommit = '1a709884b64f1d2c9e0f'",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_is_no_credential(text: str) -> None:
    assert list(find_secrets(text)) == []


def test_an_export_with_a_credential_is_refused_and_says_where() -> None:
    notebook = Notebook("X = 1", "API_KEY = 'hunter22'", "def fetch(): return API_KEY",
                        "def op(): return fetch()")  # fmt: skip
    with pytest.raises(SecretError) as refusal:
        notebook.carry("op")
    text = str(refusal.value)
    assert "'API_KEY' in cell 2 looks like a credential" in text
    assert 'os.environ["API_KEY"]' in text
    assert "hunter22" not in text


def test_a_credential_that_no_operation_uses_stays_behind() -> None:
    notebook = Notebook("API_KEY = 'hunter22'  # password: hunter22", "def op(): return 1")
    assert "hunter22" not in notebook.carry("op").text


def test_a_credential_in_a_value_of_now_is_refused() -> None:
    notebook = Notebook("CONF = {'a': 1}", "CONF['password'] = 'hunter22'", "def op(): return CONF")
    with pytest.raises(SecretError) as refusal:
        notebook.carry("op")
    assert "hunter22" not in str(refusal.value)


def test_a_refused_live_object_does_not_print_the_credential_that_made_it() -> None:
    notebook = Notebook(
        "import httpx\nweb = httpx.Client(auth=('me', 'hunter22'))", "def op(): return web"
    )
    with pytest.raises(Exception, match="live client") as refusal:
        notebook.carry("op")
    assert "hunter22" not in str(refusal.value)
    notebook["web"].close()
