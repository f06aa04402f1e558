"""Runs tests/check_rooms on trees of a few lines: each broken rule must turn it red, and the
right tree green.

Also on a copy of the project, to which an include against the drawing is added.
"""
import os
import shutil
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")

DRAWING = """
```rooms
src/         top
src/a/ src/b/  two rooms side by side
src/base/    bottom
  → lib/face.h

lib/         an interface

exceptions
src/b/ → src/top.h: for a test

libraries
<openssl/> src/a/one.c
```
"""

TREE = {
    "docs/architecture.md": DRAWING,
    "lib/face.h": "void face(void);\n",
    "lib/face.c": '#include "lib/face.h"\nvoid hidden(void);\nvoid hidden(void) {}\n'
                  'void face(void) {}\n',
    "src/top.h": "void top(void);\n",
    "src/top.c": '#include <stdio.h>\n#include "src/a/one.h"\nvoid top(void);\n'
                 'void top(void) { one(); }\n',
    "src/a/one.h": "void one(void);\n",
    "src/a/one.c": '#include "src/base/low.h"\nvoid one(void);\nvoid one(void) { low(); }\n',
    "src/b/two.c": '#include "src/top.h"\nvoid two(void);\nvoid two(void) {}\n',
    "src/base/low.h": "void low(void);\n",
    "src/base/low.c": '#include "lib/face.h"\nvoid low(void);\nvoid low(void) { face(); }\n',
}


def make(root, tree):
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check(root, *arguments):
    command = [os.path.join(ROOT, "tests/check_rooms"), *arguments]
    return subprocess.run(
        command, env={**os.environ, "ROOT": str(root)}, capture_output=True, text=True, check=False
    )


def check_calls(root):
    """Compiles the tree in a folder like that of a build, and checks the calls."""
    for source in sorted(root.rglob("*.c")):
        target = root / "build" / source.relative_to(root).with_suffix(".o")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-iquote", root, "-c", source, "-o", target], check=True)
    return check(root, "calls", str(root / "build"))


def test_the_right_tree_is_green(tmp_path):
    make(tmp_path, TREE)
    for result in check(tmp_path, "includes"), check_calls(tmp_path):
        assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    "file, include",
    [
        ("src/base/low.c", '"src/a/one.h"'),  # upward
        ("src/b/two.c", '"src/a/one.h"'),  # sideways
        ("src/a/one.c", '"src/top.h"'),  # an exception is for its own room
        ("lib/face.c", '"src/base/low.h"'),  # from another group
        ("src/b/two.c", "<openssl/ssl.h>"),  # for another file
        ("lib/face.c", "<event2/event.h>"),  # not in the drawing
        ("src/a/one.c", '"one.h"'),  # not named from the root
        ("src/a/one.c", "SOME_MACRO"),
    ],
)
def test_an_include_against_the_drawing_is_red(tmp_path, file, include):
    make(tmp_path, {**TREE, file: f"#include {include}\n" + TREE[file]})
    result = check(tmp_path, "includes")
    assert result.returncode == 1
    room = os.path.dirname(file)
    assert result.stdout == f"{file}:1: {room}/ must not include " + include.strip('"<>') + "\n"


@pytest.mark.parametrize(
    "user, used, function",
    [
        ("src/base/low.c", "src/a/one.c", "one"),
        ("src/b/two.c", "src/a/one.c", "one"),
        ("src/b/two.c", "src/top.c", "top"),  # its exception is for an include
        ("lib/face.c", "src/base/low.c", "low"),
        ("src/a/one.c", "lib/face.c", "hidden"),  # no header that it may include declares it
    ],
)
def test_a_call_against_the_drawing_is_red(tmp_path, user, used, function):
    call = f"void {function}(void);\nvoid more(void);\nvoid more(void) {{ {function}(); }}\n"
    make(tmp_path, {**TREE, user: TREE[user] + call})
    result = check_calls(tmp_path)
    assert result.returncode == 1
    assert f"{user} must not call {function}() of {used}\n" in result.stdout


def circle(count):
    """A tree with `count` files in one room, each of which calls the next."""
    files = {}
    for i in range(count):
        following = (i + 1) % count
        files[f"src/a/c{i}.c"] = (
            f"void c{i}(void);\nvoid c{following}(void);\nvoid c{i}(void) {{ c{following}(); }}\n"
        )
    return {**TREE, **files}


def test_a_circle_of_three_files_is_green(tmp_path):
    make(tmp_path, circle(3))
    result = check_calls(tmp_path)
    assert (result.returncode, result.stdout) == (0, "")


def test_a_circle_of_four_files_is_red(tmp_path):
    make(tmp_path, circle(4))
    result = check_calls(tmp_path)
    assert result.returncode == 1
    assert "a cycle of 4 files: src/a/c0.c src/a/c1.c src/a/c2.c src/a/c3.c\n" in result.stdout


def test_a_circle_across_rooms_is_red(tmp_path):
    call = "void one(void);\nvoid more(void);\nvoid more(void) { one(); }\n"
    make(tmp_path, {**TREE, "src/base/low.c": TREE["src/base/low.c"] + call})
    assert "a cycle across rooms: src/a/one.c src/base/low.c\n" in check_calls(tmp_path).stdout


def test_a_folder_that_is_not_in_the_drawing_is_red(tmp_path):
    make(tmp_path, {**TREE, "src/new/file.c": "int unused;\n"})
    result = check(tmp_path, "includes")
    assert result.returncode == 1
    assert result.stdout == "src/new/ is not in the drawing of docs/architecture.md\n"


def test_an_exception_needs_a_reason(tmp_path):
    drawing = DRAWING.replace("for a test", "")
    make(tmp_path, {**TREE, "docs/architecture.md": drawing})
    assert "without a reason" in check(tmp_path, "includes").stderr


@pytest.mark.parametrize(
    "file, header",
    [
        ("src/base/address.c", "src/net/conn.h"),
        ("src/command/rights.c", "storage/store_internal.h"),
        ("storage/base/hash.c", "storage/log/log.h"),
        ("storage/index/keydir.c", "src/base/clock.h"),
        ("protocol/token.c", "storage/store.h"),
    ],
)
def test_an_include_added_to_the_project_is_red(tmp_path, file, header):
    for folder in "src", "protocol", "storage", "bench", "docs":
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder)
    path = tmp_path / file
    path.write_text(f'#include "{header}"\n' + path.read_text(encoding="utf-8"), encoding="utf-8")
    result = check(tmp_path, "includes")
    assert result.returncode == 1
    assert f"{file}:1: {os.path.dirname(file)}/ must not include {header}\n" in result.stdout
