"""What README prints, typed or compiled; and that what the documents name is there."""
import glob
import os
import re
import subprocess
import sys

import pytest

import support

ROOT = os.path.join(os.path.dirname(__file__), "../..")

pytestmark = pytest.mark.skipif(support.IS_MEMCACHED, reason="about our README")


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def session():
    """The lines of the first session in README: (shell's line, what comes after it up to the next
    one)."""
    text = read("README.md").split("## A first session")[1].split("\n## ")[0]
    lines = [line[4:] for line in text.split("\n") if line.startswith("    ")]
    steps = []
    for line in lines:
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def packages():
    """What script/server installs."""
    return re.search(r"^build_packages=\((.*?)\)", read("script/bootstrap"),
                     re.M | re.S).group(1).split()


def talk(command, lines):
    """Types what is a command, and the data of a set; the rest are answers. As a terminal does,
    with bare newlines."""
    with subprocess.Popen(["timeout", str(support.TIMEOUT), *command], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        in_set = False
        for line in lines:
            if in_set or line.startswith(("set ", "get ")):
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
                in_set = line.startswith("set ")
            else:
                assert process.stdout.readline() == line.encode() + b"\r\n"
        process.terminate()


def test_the_first_session():
    assert {"netcat-openbsd", "procps"} <= set(packages())
    server = support.Server()
    said = []
    for command, lines in session():
        if command.startswith("nc "):
            talk(command.replace("11211", str(server.port)).split(), lines)
        elif command.startswith("kill -9 $("):
            pids = subprocess.run(command[len("kill -9 $(") : -1].split(), stdout=subprocess.PIPE,
                                  check=True).stdout.split()
            # Others may run beside it, and are left alone
            assert b"%d" % server.process.pid in pids
            server.kill9()
        else:
            assert command == "script/server"
            server.start()
            pattern = re.escape(lines[0]).replace("11211",
                                                  str(server.port)).replace("…/data", r"\S+")
            assert re.fullmatch(re.sub(r"0\\\.00\d", r"\\d+\\.\\d+", pattern),
                                server.log().strip()), server.log()
        said.append(command)
    assert [command.split()[0] for command in said] == ["nc", "kill", "script/server", "nc"]


# Embedding

def make_variables():
    """Those of the build that the server under test comes from; None if it does not lie where it
    was built."""
    path = os.path.join(os.path.dirname(support.CACHECASK), "Makefile")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return dict(re.findall(r"^(\w+) = (.*)$", file.read(), re.M))


def test_the_embedding_example_is_part_of_the_program():
    part = re.search(r"^```c\n(.*?)^```", read("README.md"), re.M | re.S).group(1)
    assert part in read("docs/embedding.c")


def test_the_embedding_program(tmp_path):
    variables = make_variables()
    if variables is None:
        pytest.skip("the server under test has no Makefile beside it")
    source, program = os.path.join(ROOT, "docs/embedding.c"), str(tmp_path / "program")
    library = os.path.join(os.path.dirname(support.CACHECASK), "libcachecask.a")
    words = [variables.get(name, "").split() for name in
             ("CC", "CFLAGS", "AM_CFLAGS", "AM_LDFLAGS", "XXHASH_LIBS", "URING_LIBS", "LIBS")]
    compiler, flags, libraries = words[0], sum(words[1:4], []), sum(words[4:], [])
    subprocess.run([*compiler, *flags, "-iquote", ROOT, source, library, *libraries, "-o", program],
                   check=True)
    (tmp_path / "data").mkdir()
    done = subprocess.run([program], cwd=tmp_path, stdout=subprocess.PIPE, timeout=support.TIMEOUT,
                          check=True)
    assert done.stdout == b"hello\n"


# The documents

def documents():
    return sorted(os.path.relpath(path, ROOT)
                  for pattern in ("*.md", "[a-z]*/*.md", "[a-z]*/*/*.md")
                  for path in glob.glob(os.path.join(ROOT, pattern)) if "/build/" not in path)


def test_a_link_leads_somewhere():
    links = [(document, link) for document in documents()
             for link in re.findall(r"\]\(([^)#:]+)\)", read(document))]
    assert len(links) > 20
    wrong = [(document, link) for document, link in links
             if not os.path.exists(os.path.join(ROOT, os.path.dirname(document), link))]
    assert wrong == []


def module(path):
    """x_none and x_absent stand for x in a build without something."""
    return re.sub(r"_(none|absent)$", "", os.path.splitext(os.path.basename(path))[0])


@pytest.mark.parametrize("folder", ["src", "bench", "tests/server", "tests/long"])
def test_the_table_of_a_folder_names_its_files(folder):
    document, heading = ((folder + "/README.md", "") if "/" not in folder
                         else ("tests/README.md", "## %s/" % folder[6:]))
    table = re.split(r"(?m)^## ", read(document).partition(heading + "\n")[2])[0]
    table = re.sub(r"(?m)^\|.*\|\n\|---.*$", "", table)  # heads of tables
    named = [name for cell in re.findall(r"(?m)^\| (\w.*?) \|", table) for name in cell.split(", ")]
    there = {module(path) for ending in ("c", "h", "def", "py", "sh")
             for path in glob.glob(os.path.join(ROOT, folder, "**", "*." + ending), recursive=True)}
    assert len(there) > 5 and sorted(named) == sorted(there)


def test_script_bench_finds_its_table():
    sys.path.insert(0, os.path.join(ROOT, "bench"))
    try:
        import groups
        import tables
    finally:
        sys.path.pop(0)
    text = read("README.md")
    assert tables.has_marks(os.path.join(ROOT, "README.md"))
    table = text.split(tables.BEGIN)[1].split(tables.END)[0]
    titles = re.findall(r"^\| (\w[^|]*?) \|", table, re.M)[1:]
    assert titles == [row.title for row in groups.GROUPS["base"].rows() if row.in_readme]
