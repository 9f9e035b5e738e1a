"""[tool.pulpo] and PULPO_*: what they say holds, and what makes no sense is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulpo.errors import SettingsError
from pulpo.settings import load_settings, package_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_setting_exports_go_to_run_cache() -> None:
    settings = load_settings()
    assert settings.cache_dir == Path("run_cache")
    assert settings.auto_compile
    assert not settings.verbose


def test_the_environment_wins_over_pyproject_and_arguments_over_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text('[tool.pulpo]\ncache_dir = "one"\nverbose = true\n')
    assert load_settings().cache_dir == Path("one")
    monkeypatch.setenv("PULPO_CACHE_DIR", "two")
    assert load_settings().cache_dir == Path("two")
    assert load_settings(cache_dir="three").cache_dir == Path("three")
    assert load_settings().verbose


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tool.pulpo]\ncache_dirr = "x"\n', "cache_dirr"),
        ('[tool.pulpo]\nverbose = "perhaps"\n', "verbose"),
        ("[tool.pulpo\n", "cannot be read"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(folder: Path, text: str, words: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(SettingsError, match=words):
        load_settings()


@pytest.mark.parametrize(
    ("name", "near"), [("my-flows", "my_flows"), ("2024", "_2024"), ("class", "_class")]
)
def test_an_export_folder_has_to_be_importable(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"Call it '{near}'"):
        package_of(Path(name))
    assert package_of(Path("some/where") / near) == near


@pytest.mark.parametrize("name", ["json", "prefect", "pydantic"])
def test_an_export_folder_hides_no_package_that_is_installed(name: str) -> None:
    with pytest.raises(SettingsError, match=f"Call it '{name}_flows'"):
        package_of(Path("somewhere") / name)


def test_a_folder_beside_the_notebook_may_have_any_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))  # as the folder of a notebook is
    assert package_of(tmp_path / "flows") == "flows"
    assert package_of(Path("elsewhere/flows")) == "flows"
