"""Configuration: read once, every problem told at once, secrets from where they belong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vidqueue.processors import registry
from vidqueue.settings.load import RENAMED, ConfigError, load
from vidqueue.settings.schema import keys, variable_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "given.toml"
    path.write_text(text)
    return path


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "[api]\nport = 1\nhost = '127.0.0.2'\n[lanes]\ncpu = 7\n")
    monkeypatch.setenv("VIDQUEUE_API__PORT", "2")
    loaded = load(file=file, flags={"api": {"host": "127.0.0.3"}})
    assert (loaded.settings.api.port, loaded.settings.api.host, loaded.settings.lanes.cpu) == (2, "127.0.0.3", 7)
    assert loaded.origins == {"api.port": "VIDQUEUE_API__PORT", "api.host": "flag", "lanes.cpu": str(file)}


def test_every_problem_is_told_at_once_with_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "[api]\nprot = 1\nport = 'many'\n[lanes]\ncpu = -1\n[nonsense]\nx = 1\n")
    monkeypatch.setenv("VIDQUEUE_DATABSE__URL", "postgresql://x")
    for word in ("KEY", "URLS", "PORT", "ROOTS", "XYZZY"):
        monkeypatch.setenv(f"VIDQUEUE_{word}", "x")
    with pytest.raises(ConfigError) as caught:
        load(file=file)
    told = "\n".join(caught.value.problems)
    assert "unknown key 'api.prot'; did you mean 'api.port'?" in told
    assert "unknown variable 'VIDQUEUE_DATABSE__URL'; did you mean 'VIDQUEUE_DATABASE__URL'?" in told
    # Not the one that is alike only because all of them begin with VIDQUEUE_.
    assert "unknown variable 'VIDQUEUE_KEY'; did you mean 'VIDQUEUE_API_KEY'?" in told
    assert "unknown variable 'VIDQUEUE_URLS'; did you mean 'VIDQUEUE_URL'?" in told
    assert "unknown variable 'VIDQUEUE_PORT'; did you mean 'VIDQUEUE_API__PORT'?" in told
    assert "unknown variable 'VIDQUEUE_ROOTS'; did you mean 'VIDQUEUE_INPUTS__ROOTS'?" in told
    assert "environment: unknown variable 'VIDQUEUE_XYZZY'" in caught.value.problems
    assert "api.port" in told
    assert "lanes.cpu" in told
    assert "nonsense.x" in told


NESTED = {
    "[cog.endpoints.a]\ncomand = ['x']": "cog.endpoints.a.comand: unknown key 'comand'; did you mean 'command'?",
    "[comfyui.servers.a]\nurll = 'x'": "comfyui.servers.a.urll: unknown key 'urll'; did you mean 'url'?",
    "[videos.servers.a]\nmodell = 'x'": "videos.servers.a.modell: unknown key 'modell'; did you mean 'model'?",
    "[generate.models.a]\ntassk = 'x'": "generate.models.a.tassk: unknown key 'tassk'; did you mean 'task'?",
    "[[schedules]]\ncronn = 'x'": "schedules.0.cronn: unknown key 'cronn'; did you mean 'cron'?",
}


@pytest.mark.parametrize("text", NESTED)
def test_an_unknown_key_of_an_entry_has_a_suggestion_too(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file=file, sections=registry.sections(of_package="vidqueue."))
    assert f"{file}: {NESTED[text]}" in caught.value.problems


def test_a_key_that_was_renamed_is_an_error_that_names_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_section: dict[str, list[str]] = {}
    for old in RENAMED:
        by_section.setdefault(old.partition(".")[0], []).append(old.partition(".")[2])
    file = written(
        tmp_path, "".join(f"[{name}]\n" + "".join(f"{k} = 1\n" for k in ks) for name, ks in by_section.items())
    )
    monkeypatch.setenv("VIDQUEUE_DATABASE__BALLAST_MB", "0")
    with pytest.raises(ConfigError) as caught:
        load(file=file)
    told = "\n".join(caught.value.problems)
    for old, new in RENAMED.items():
        assert f"unknown key {old!r}; it is now {new!r}" in told
    assert "'VIDQUEUE_DATABASE__BALLAST_MB'; it is now 'VIDQUEUE_DATABASE__DISK_RESERVE_MIB'" in told
    assert set(RENAMED.values()) <= {key for key, _ in keys()}


def test_sizes_are_named_by_the_unit_they_are_measured_in() -> None:
    assert [key for key, _ in keys() if key.endswith(("_mb", "_gb", "_kb"))] == []


def test_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(file=tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"given\.toml"):
        load(file=written(tmp_path, "[api\n"))


def test_the_database_url_comes_from_a_file_or_a_credential_and_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database_url").write_text("postgresql://me:secret@db/x\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = load().settings
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql://me:secret@db/x"
    assert "me:secret" not in repr(settings)
    monkeypatch.setenv("VIDQUEUE_DATABASE__URL", "postgresql://other/x")
    settings = load().settings
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql://other/x"


def test_an_address_of_a_flag_or_a_variable_beats_either_key_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database_url").write_text("postgresql://file/x")
    (tmp_path / "other_url").write_text("postgresql://other/x")
    config = tmp_path / "vidqueue.toml"
    config.write_text(f'[database]\npool_size = 5\nurl_file = "{tmp_path}/database_url"\n')

    def address(**flags: Any) -> tuple[str, int]:
        found = load(file=config, flags=flags).settings.database
        assert found.url is not None
        return found.url.get_secret_value(), found.pool_size

    assert address() == ("postgresql://file/x", 5)
    assert address(database={"url": "postgresql://flag/x"}) == ("postgresql://flag/x", 5)
    monkeypatch.setenv("VIDQUEUE_DATABASE__URL", "postgresql://variable/x")
    assert address() == ("postgresql://variable/x", 5)
    monkeypatch.delenv("VIDQUEUE_DATABASE__URL")
    config.write_text('[database]\npool_size = 5\nurl = "postgresql://inline/x"\n')
    monkeypatch.setenv("VIDQUEUE_DATABASE__URL_FILE", str(tmp_path / "other_url"))
    assert address() == ("postgresql://other/x", 5)


@pytest.mark.parametrize("content", [b"", b" \n", b"postgresql://me:\xff@db/x"])
def test_a_file_without_an_address_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (tmp_path / "database_url").write_bytes(content)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigError, match=r"database\.url_file"):
        load()


def test_lists_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDQUEUE_INPUTS__ROOTS", '["/srv/a", "/srv/b"]')
    assert load().settings.inputs.roots == [Path("/srv/a"), Path("/srv/b")]
    monkeypatch.setenv("VIDQUEUE_INPUTS__ROOTS", '["relative"]')
    with pytest.raises(ConfigError, match="not an absolute path"):
        load()


def test_settings_never_change_after_they_are_read() -> None:
    settings = load().settings
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, "data_dir", Path("/x"))  # noqa: B010 - what mypy forbids is what is tried


def test_every_key_has_a_variable_and_a_description() -> None:
    for key, info in keys():
        assert variable_of(key).isupper()
        assert info.description, key


def locally(text: str = "[inputs]\nroots = ['/']\n") -> Path:
    path = Path("vidqueue.toml").absolute()
    path.write_text(text)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    return path


def test_a_file_of_the_start_folder_that_nobody_else_can_write_is_read() -> None:
    locally()
    loaded = load()
    assert loaded.settings.inputs.roots == [Path("/")]
    assert loaded.warnings == ()


@pytest.mark.parametrize("who", ["file", "folder"])
@pytest.mark.parametrize("mode", [0o020, 0o002, 0o1777])
def test_a_file_that_others_can_write_or_replace_is_refused_unless_it_was_named(who: str, mode: int) -> None:
    path = locally()
    place = path if who == "file" else path.parent
    place.chmod(place.stat().st_mode | mode)
    with pytest.raises(ConfigError, match=r"is writable by its group or by everyone(.|\n)*was not read"):
        load()
    loaded = load(file=path)
    assert loaded.settings.inputs.roots == [Path("/")]
    assert "writable" in " ".join(loaded.warnings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
@pytest.mark.parametrize("who", ["file", "folder", "link"])
def test_a_file_of_another_user_is_refused_unless_it_was_named(who: str, tmp_path: Path) -> None:
    path = locally()
    if who == "link":
        (tmp_path / "real").mkdir(mode=0o755)
        path.rename(tmp_path / "real" / "any.toml")
        path.symlink_to("real/any.toml")
        os.chown(path, 65534, 65534, follow_symlinks=False)
    else:
        os.chown(path if who == "file" else path.parent, 65534, 65534)
    with pytest.raises(ConfigError, match=r"65534(.|\n)*was not read"):
        load()
    assert "65534" in " ".join(load(file=path).warnings)


def test_a_broken_link_in_the_start_folder_is_told_and_not_passed_over() -> None:
    Path("vidqueue.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="no such file"):
        load()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_stands_in_the_start_folder_and_is_no_file_is_refused_and_not_waited_for(kind: str) -> None:
    path = Path("vidqueue.toml")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(
        ConfigError, match=r"vidqueue\.toml cannot be read: (It is not a regular file|Is a directory)\."
    ):
        load()


def test_a_file_without_end_is_refused_also_if_it_was_named() -> None:
    with pytest.raises(ConfigError, match="more than 1048576 characters"):
        load(file=Path("/dev/zero"))


def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    """As the shell makes one of `--config <(command)`."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write('[log]\nlevel = "debug"\n')
    assert load(file=Path(f"/dev/fd/{reading}")).settings.log.level == "debug"
    os.close(reading)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = " + b"[" * 50_000, "nested too deeply"),
        (b"[log]\nlevel = '\xff'\n", "not text in UTF-8: invalid start byte at byte 15"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_told_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "given.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load(file=path)


def test_a_byte_order_mark_of_an_editor_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "given.toml"
    path.write_bytes(b'\xef\xbb\xbf[log]\nlevel = "debug"\n')
    assert load(file=path).settings.log.level == "debug"
