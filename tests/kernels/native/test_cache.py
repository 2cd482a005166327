"""The cache of the compiled library: private, whole, and checked before anything in it is loaded."""

import errno
import os

import pytest

from nets.kernels.native import cache

NAME, LIBRARY = "kernels-1.so", b"\x7fELF" + bytes(range(256)) * 40


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / cache.FOLDER


def found() -> bytes | None:
    """What a loader would read of the library."""
    path = cache.find(NAME)
    return None if path is None else path.read_bytes()[: -cache.DIGEST]


def test_a_kept_library_is_found_in_a_folder_of_mode_0700(folder):
    assert found() is None
    cache.put(NAME, LIBRARY)
    assert found() == LIBRARY
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [f.name for f in folder.iterdir()] == [NAME]


def test_a_folder_that_was_open_to_others_is_closed(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    cache.put(NAME, LIBRARY)
    assert found() == LIBRARY and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("size", [0, 31, 100, 5000, len(LIBRARY) + 31])
def test_a_library_that_was_cut_short_is_not_sound(folder, size):
    cache.put(NAME, LIBRARY)
    os.truncate(folder / NAME, size)
    with pytest.raises(OSError, match="damaged"):
        cache.find(NAME)
    cache.put(NAME, LIBRARY)
    assert found() == LIBRARY


@pytest.mark.parametrize("content", [LIBRARY, bytes(64), b"x" * 1000])
def test_a_library_without_its_hash_is_not_sound(folder, content):
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(content)
    with pytest.raises(OSError, match="damaged"):
        cache.find(NAME)


def test_a_file_that_others_may_write_to_is_not_sound(folder):
    cache.put(NAME, LIBRARY)
    (folder / NAME).chmod(0o722)
    with pytest.raises(OSError, match="may be written to by other users"):
        cache.find(NAME)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_another_users_folder_or_file_is_not_used(folder, what, monkeypatch):
    cache.put(NAME, LIBRARY)
    me = os.geteuid()
    if what == "folder":
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    else:
        uids = iter([me, me + 1])  # the folder is looked at first
        monkeypatch.setattr(os, "geteuid", lambda: next(uids))
    with pytest.raises(OSError, match=f"{NAME if what == 'file' else cache.FOLDER} belongs to another user"):
        cache.find(NAME)


def test_links_are_not_followed(folder, tmp_path):
    cache.put(NAME, LIBRARY)
    (folder / NAME).rename(tmp_path / "other.so")
    (folder / NAME).symlink_to(tmp_path / "other.so")
    with pytest.raises(OSError) as e:
        cache.find(NAME)
    assert e.value.errno == errno.ELOOP
    (folder / NAME).unlink()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    for use in (lambda: cache.find(NAME), lambda: cache.put(NAME, LIBRARY)):
        with pytest.raises(OSError):
            use()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_pipe_or_folder_with_the_librarys_name_is_not_sound(folder):
    folder.mkdir(parents=True)
    os.mkfifo(folder / NAME, 0o600)
    with pytest.raises(OSError, match="is not a file"):  # without waiting for a writer
        cache.find(NAME)
    (folder / NAME).unlink()
    (folder / NAME).mkdir(0o700)
    with pytest.raises(OSError, match="is not a file"):
        cache.find(NAME)


def test_a_file_in_the_place_of_the_folder_is_an_error(folder):
    folder.parent.mkdir()
    folder.write_text("")
    with pytest.raises(OSError, match="is not a folder"):
        cache.find(NAME)


def test_no_home_is_an_error_of_one_line(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache.Path, "home", home)
    with pytest.raises(OSError, match="no cache folder"):
        cache.find(NAME)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_older_library_and_nothing_else(folder, call, monkeypatch):
    cache.put(NAME, LIBRARY)

    def fails(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space left"):
            cache.put(NAME, b"another")
    assert found() == LIBRARY and [f.name for f in folder.iterdir()] == [NAME]


def test_the_bytes_are_on_the_disk_before_the_name(folder, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real, **k: (calls.append(n), r(*a, **k))[1])
    cache.put(NAME, LIBRARY)
    assert calls == ["fsync", "replace", "fsync"]
