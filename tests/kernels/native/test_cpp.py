"""The native library: compiled once, for any processor, and again where what was kept isn't sound."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nets.kernels import native
from nets.kernels.native import cache, cpp
from tests.kernels import sanitize
from tests.kernels.common import off, pictures

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty cache, and a library that is loaded anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", os.environ.get("CXX", "c++"))
    native.library.cache_clear()
    yield tmp_path / "cache" / cache.FOLDER
    native.library.cache_clear()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """A library as the compiler makes it, without a cache's hash."""
    native.library.cache_clear()
    native.library()
    path = tmp_path_factory.mktemp("compiled") / "kernels.so"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(cache, "put", lambda name, library: path.write_bytes(library))
        m.setattr(cache, "find", lambda name: None)
        m.setattr(cpp, "FLAGS", ("-O0", *cpp.FLAGS[1:]))
        native.library.cache_clear()
        assert native.library() is not None
    native.library.cache_clear()
    return path


@pytest.fixture
def compiler(monkeypatch, tmp_path, folder, compiled):
    """compiler(commands): make CXX a script. The output's path is $out; by default, it copies `compiled`."""

    def make(commands: str = f"cp {compiled} $out", options: str = "") -> Path:
        path = tmp_path / "a compiler"
        find = 'for last; do [ "$out" = next ] && out=$last; [ "$last" = -o ] && out=next; done'
        version = '[ "$1" = --version ] && echo one && exit'
        path.write_text(f"#!/bin/sh\n{version}\necho run >> '{path}.runs'\n{find}\n{commands}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", f"'{path}' {options}")
        return path

    return make


def again():
    """The library of a new process."""
    native.library.cache_clear()
    return native.library()


def runs(path: Path) -> int:
    return len(Path(f"{path}.runs").read_text().splitlines())


def test_the_library_is_compiled_once_into_the_cache(folder, compiler, capsys):
    path = compiler()
    assert again() is not None and again() is not None
    assert runs(path) == 1 and len(list(folder.iterdir())) == 1
    assert capsys.readouterr().err == ""
    x = torch.randn(2, 3, 4, 4)
    near = torch.nn.functional.conv2d(x, weight := torch.randn(5, 3, 3, 3), padding=1)
    assert off(native.conv(x, weight, None), near.double()) < 1e-5


@pytest.mark.parametrize("damage", [0, 100, 4096, -1, "another"])
def test_a_damaged_library_heals_once_with_a_line(damage, folder, compiler, capsys):
    path = compiler()
    assert again() is not None
    (kept,) = folder.iterdir()
    if damage == "another":
        other = Path(torch.__file__).parent / "lib" / "libshm.so"
        kept.write_bytes(other.read_bytes() if other.exists() else b"\x7fELF" * 1000)
    else:
        os.truncate(kept, damage if damage >= 0 else kept.stat().st_size + damage)
    assert again() is not None and runs(path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"note: {kept} is damaged: the kernels were compiled anew"
    assert again() is not None and runs(path) == 2
    assert capsys.readouterr().err == ""


def test_a_sound_file_that_is_no_library_of_kernels_is_compiled_anew(folder, compiler, capsys):
    path = compiler()
    again()
    (kept,) = folder.iterdir()
    other = next(Path(torch.__file__).parent.glob("lib/libshm.so"), None)
    cache.put(kept.name, other.read_bytes() if other else b"\x7fELF" * 1000)
    assert again() is not None and runs(path) == 2
    assert "the kernels were compiled anew" in capsys.readouterr().err


@pytest.mark.parametrize("commands, error", [
    ("echo half > $out; echo x.cpp:1: error: no space left >&2; exit 1", "no space left"),
    ("echo half > $out; kill -9 $$", "ended with -9"),
    ("true", "cannot open shared object file"),
    (": > $out", "too short"),
])  # fmt: skip
def test_a_compiler_that_fails_leaves_nothing_behind(commands, error, folder, compiler, capsys):
    compiler(commands)
    assert again() is None and error in native.reason[-1] and "\n" not in native.reason[-1]
    assert not folder.exists() or not list(folder.iterdir())
    compiler()
    assert again() is not None


@pytest.mark.parametrize("why", ["full", "owner", "home"])
def test_where_the_library_cannot_be_kept_it_is_compiled_for_this_run(why, compiler, monkeypatch, capsys):
    path = compiler()
    with monkeypatch.context() as m:
        if why == "home":
            m.delenv("XDG_CACHE_HOME")
            m.setattr(cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
        elif why == "owner":
            m.setattr(os, "geteuid", lambda: 4711)
        else:
            m.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert again() is not None and again() is not None
    assert runs(path) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == second and first.endswith("the kernels were compiled for this run only")


def test_processes_that_compile_at_once_both_have_kernels(folder, compiler, compiled):
    path = compiler(f"sleep 0.5; cp {compiled} $out")
    native.library.cache_clear()
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=lambda: os._exit(native.library() is None)) for _ in range(2)]
    for p in both:
        p.start()
    for p in both:
        p.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert again() is not None and runs(path) <= 2
    assert len(list(folder.iterdir())) == 1


def test_cxx_is_split_as_a_shell_splits_it(compiler, monkeypatch, tmp_path):
    compiler(f'echo "$@" > {tmp_path}/arguments; exit 1', options="-O1 '-DX=a b'")
    again()
    assert (tmp_path / "arguments").read_text().startswith("-O1 -DX=a b ")
    for cxx in ("", "  "):
        monkeypatch.setenv("CXX", cxx)
        assert cpp._compiler() == ["c++"]
    monkeypatch.setenv("CXX", "ccache g++")
    assert cpp._compiler() == ["ccache", "g++"]
    monkeypatch.setenv("CXX", "g++ '")
    assert again() is None and native.reason[-1] == "CXX: No closing quotation"


def test_memory_that_runs_out_is_the_error_that_torch_raises():
    """A thread's room, the filters, and a gradient's sums: none is written to when it couldn't be had."""
    code = """
import resource, torch
from nets.kernels import native
x, dy, w = torch.randn(2, 1024, 4, 4), torch.randn(2, 1024, 4, 4), torch.randn(1024, 1024, 3, 3)
native.moments(x)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), resource.RLIM_INFINITY))
for call in (lambda: native.conv(x, w, None), lambda: native.conv_weight_gradient(x, dy)):
    try:
        call()
    except RuntimeError as e:
        print(e)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("can't allocate memory: you tried to allocate" in line for line in lines)


@pytest.mark.deep
def test_the_sanitizers_find_nothing():
    assert sanitize.main(["--short"]) == 0


@pytest.mark.deep
@pytest.mark.parametrize("without", ["-mno-amx-tile", "-mno-avx512bf16"])
def test_a_processor_without_an_extension_gives_the_same_sums(without, monkeypatch, folder):
    """Its matrix unit, and its products of bfloat16, are ways to the same sums."""
    torch.manual_seed(0)
    x, dy = (pictures(5, k, 7, 6, dtype=torch.bfloat16) for k in (40, 70))
    weight, bias = torch.randn(70, 40, 3, 3), torch.randn(70)

    def results():
        y, winner = native.conv_pool(x, weight, bias)
        return [
            native.conv(x, weight, bias), y,
            native.conv_input_gradient(dy, weight), native.conv_weight_gradient(x, dy),
            native.conv_pool_weight_gradient(x, y, winner),
        ]  # fmt: skip

    here = results()
    monkeypatch.setattr(cpp, "FLAGS", ("-O1", *cpp.FLAGS[1:], without))  # less is faster compiled
    if again() is None:
        pytest.skip(f"the compiler doesn't know {without}")
    for mine, other in zip(here, results()):
        assert off(mine, other.double()) < 5e-3
