"""Two small job sites on loopback, with the habits of real ones, for the first notebook."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

DATA = Path(__file__).parent / "data"

# What each page of the HTML site claims about itself. The bytes of page 2 say it in a meta
# tag, page 3 by its byte order mark, page 4 nowhere but in this header.
CONTENT_TYPES = {
    1: "text/html; charset=utf-8",
    2: "text/html",
    3: "text/html",
    4: "text/html; charset=iso-8859-15",
}
SLOW_PAGE, SLOW_SECONDS = 2, 0.5
SHAKY_PAGE = 3


class JobServer:
    """Serve the advertisements of a folder until the process ends or `close` is called.

    `/stepstone/jobs?query=…&page=N` gives HTML, `/linkedin/api/jobs?q=…&start=N&count=N` JSON.

    Parameters
    ----------
    folder
        Where `stepstone/page-N.html` and `linkedin/jobs.json` are.
    """

    def __init__(self, folder: Path = DATA) -> None:
        self.folder = folder
        self.hits: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The address, with the free port that was found."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Stop serving and give the port back."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        if path == "/stepstone/jobs":
            return self._page(int(query.get("page", "1")))
        if path == "/linkedin/api/jobs":
            start, count = int(query.get("start", "0")), int(query.get("count", "10"))
            return self._json(query.get("q", ""), start, count)
        return HTTPStatus.NOT_FOUND, "text/plain", b"no such page"

    def _page(self, number: int) -> tuple[int, str, bytes]:
        if number not in CONTENT_TYPES:
            return HTTPStatus.NOT_FOUND, "text/plain", b"no such page"
        nth = self._count(f"page {number}")
        if number == SLOW_PAGE:
            time.sleep(SLOW_SECONDS)
        if number == SHAKY_PAGE and nth % 2:  # every first try fails, every second one works
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"please try again"
        body = (self.folder / "stepstone" / f"page-{number}.html").read_bytes()
        return HTTPStatus.OK, CONTENT_TYPES[number], body

    def _json(self, words: str, start: int, count: int) -> tuple[int, str, bytes]:
        self._count("api")
        ads = json.loads((self.folder / "linkedin" / "jobs.json").read_bytes())
        found = [ad for ad in ads if words.lower() in f"{ad['title']} {ad['description']}".lower()]
        answer = {"total": len(found), "start": start, "elements": found[start : start + count]}
        body = json.dumps(answer, ensure_ascii=False).encode()
        return HTTPStatus.OK, "application/json", body

    def _count(self, what: str) -> int:
        with self._lock:
            self.hits[what] += 1
            return self.hits[what]


def _handler_for(server: JobServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            try:
                status, content_type, body = server.answer(address.path, query)
            except ValueError as problem:  # `page=two`
                status, content_type = HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8"
                body = str(problem).encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the notebook quiet."""

    return Handler
