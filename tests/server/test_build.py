"""Where it cannot work it is not built."""
import os
import subprocess

import pytest

import support

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))


def can_compile_for(flag):
    try:
        done = subprocess.run(["gcc", flag, "-fsyntax-only", "-xc", "-"], input=b"int x;",
                              stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0
    except FileNotFoundError:
        return False


def compiler_for(flag):
    """It compiles for the smaller system and links for this one, whose libraries are here."""
    path = os.path.join(support.place.new("bin"), "cc")
    with open(path, "w", encoding="ascii") as file:
        file.write('#!/bin/sh\nfor word; do [ "$word" = -c ] && exec gcc %s "$@"; done\nexec gcc '
                   '"$@"\n' % flag)
    os.chmod(path, 0o755)
    return path


needs_m32 = pytest.mark.skipif(not can_compile_for("-m32"), reason="this gcc knows no -m32")


@needs_m32
@pytest.mark.parametrize("flag", ["-m32", "-mx32"])
def test_configure_refuses_a_32_bit_system(flag):
    folder = support.place.new("build")
    done = subprocess.run([os.path.join(ROOT, "configure"), "CC=" + compiler_for(flag)], cwd=folder,
                          capture_output=True, text=True, timeout=support.TIMEOUT * 3, check=False)
    assert done.returncode != 0 and "needs a 64-bit system" in done.stderr, done.stderr[-2000:]


@needs_m32
def test_the_library_alone_is_not_compiled_for_a_32_bit_system():
    """With this system's headers, and a stand-in for the one that is not here."""
    here = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True,
                          check=True).stdout.strip()
    folder = support.place.new("headers")
    os.mkdir(os.path.join(folder, "gnu"))
    with open(os.path.join(folder, "gnu/stubs-32.h"), "w", encoding="ascii"):
        pass
    done = subprocess.run(["gcc", "-m32", "-fsyntax-only", "-I" + folder, "-I/usr/include/" + here,
                           "-iquote", ROOT, "-xc", "-"],
                          input='#include "storage/store.h"\n', capture_output=True, text=True,
                          check=False)
    assert done.returncode != 0 and "cachecask needs a 64-bit system" in done.stderr
