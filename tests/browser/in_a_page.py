"""A widget's JavaScript alone in a page, with a stand-in for the model that Jupyter would give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

import pulpo

__all__ = ["Mounted", "mount"]

_FOLDER = Path(str(pulpo.__file__)).parent / "widgets"
_ORIGIN = "http://pulpo.test"
# What anywidget's models do, as far as the panel uses it.
_MODEL = """
class Model {
    constructor(state) { this.state = state; this.handlers = {}; this.sent = []; this.saved = 0; }
    get(name) { return this.state[name]; }
    set(name, value) {
        if (this.state[name] === value) return;
        this.state[name] = value;
        for (const act of this.handlers["change:" + name] ?? []) act();
    }
    save_changes() { this.saved += 1; }
    send(content) { this.sent.push(content); }
    on(name, act) { (this.handlers[name] ??= []).push(act); }
    off(name, act) { this.handlers[name] = this.handlers[name].filter(each => each !== act); }
    get listeners() { return Object.values(this.handlers).flat().length; }
}
"""


@dataclass
class Mounted:
    """A widget in a page; `state` and `set` are those of its model."""

    page: Page

    def get(self, name: str) -> Any:
        return self.page.evaluate("name => model.get(name)", name)

    def set(self, name: str, value: Any) -> None:
        self.page.evaluate("([name, value]) => model.set(name, value)", [name, value])

    @property
    def sent(self) -> list[Any]:
        """The messages to the kernel."""
        found: list[Any] = self.page.evaluate("() => model.sent")
        return found

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function that the module exports; sets come back as lists."""
        return self.page.evaluate(
            """([name, given]) => {
                const found = lib[name](...given);
                return found instanceof Set ? [...found] : found;
            }""",
            [function, list(arguments)],
        )

    def unmount(self) -> int:
        """Take the widget away, and return how many handlers its model still has."""
        return int(self.page.evaluate("() => { unmount(); return model.listeners }"))


def mount(page: Page, module: str, state: dict[str, Any], *, dark: bool = False) -> Mounted:
    """Show the widget of ``pulpo/widgets/<module>`` with its model in ``state``."""

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(f"{_ORIGIN}/")
        if not name:
            route.fulfill(content_type="text/html", body="<!doctype html><body></body>")
            return
        kind = {"js": "text/javascript", "css": "text/css"}[name.rpartition(".")[2]]
        route.fulfill(content_type=kind, body=(_FOLDER / name).read_text(encoding="utf-8"))

    page.route(f"{_ORIGIN}/**", answer)
    page.goto(f"{_ORIGIN}/")
    look = (
        'data-jp-theme-light="false" style="background:#111;color:#eee;--jp-ui-font-color1:#eee;'
        '--jp-ui-font-color2:#bbb;--jp-layout-color1:#111;--jp-layout-color3:#444"'
        if dark
        else 'style="background:#fff"'
    )
    page.set_content(
        f'<!doctype html><html lang="en"><head><link rel="stylesheet" href="{_ORIGIN}/panel.css">'
        f'</head><body {look}><div class="pulpo-panel"><div id="here"></div></div></body></html>'
    )
    page.evaluate(
        f"""async ([module, state]) => {{
            {_MODEL}
            window.lib = await import("{_ORIGIN}/" + module);
            window.model = new Model(state);
            const el = document.getElementById("here");
            window.unmount = lib.default.render({{ model, el }});
        }}""",
        [module, state],
    )
    return Mounted(page)
