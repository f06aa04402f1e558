"""The load tool against the real server, as far as a server is needed: traces, fills, and where a
sequence goes on."""
import json
import os
import re
import shutil
import subprocess

import pytest

import support

BENCH = (os.environ.get("CACHECASK_BENCH") or
         os.path.join(os.path.dirname(support.CACHECASK), "cachecask-bench"))

REDIS = shutil.which("redis-server")

pytestmark = pytest.mark.skipif(not os.path.exists(BENCH), reason="no cachecask-bench")


def bench(server, *options):
    """Runs the tool and returns its only phase."""
    done = run("--json", "--port=%d" % server.port, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (phase,) = json.loads(done.stdout)["phases"]
    assert phase["complete"] and phase["errors"] == phase["wrong"] == 0
    return phase


def run(*options):
    return subprocess.run([BENCH, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=support.TIMEOUT, check=False)


def trace_file(content):
    path = os.path.join(support.place.new("trace"), "trace")
    with open(path, "wb") as file:
        file.write(content)
    return path


def test_its_own_arithmetic_is_right():
    done = run("--self-test")
    assert done.returncode == 0 and b"FAILED" not in done.stdout and b"ok: " in done.stdout


def test_a_fill_stores_what_was_missed_and_nothing_else(server):
    options = ["--keys=100", "--requests=100", "--distribution=sequential", "--fill", "--verify",
               "--value-size=0-3000"]
    for extra in ([], ["--pipeline=16"], ["--multiget=5", "--pipeline=3", "--requests=20"]):
        with server.connect() as client:
            client.talk(b"flush_all\r\n", b"OK\r\n")
        for misses in (100, 0):
            phase = bench(server, "--connections=1", *options, *extra)
            assert (phase["hits"], phase["misses"]) == (100 - misses, misses)
            assert phase["filled"] == phase["stored"] == misses
    assert bench(server, "--keys=100", "--verify-all", "--value-size=0-3000")["hits"] == 100


def test_a_pipeline_of_many_connections_is_filled_too(server):
    phase = bench(server, "--keys=5000", "--requests=40000", "--distribution=zipf", "--fill",
                  "--verify", "--pipeline=32", "--threads=2", "--connections=8",
                  "--value-size=10-20000")
    assert phase["hits"] + phase["misses"] == 40000 and phase["filled"] == phase["misses"] > 1000
    assert phase["latency_us"]["set"]["count"] == phase["misses"]


@pytest.mark.parametrize("protocol", ["meta", "binary"])
def test_the_other_protocols_store_and_find_the_same(server, protocol):
    options = ["--keys=500", "--verify", "--fill", "--requests=500", "--distribution=sequential",
               "--value-size=0-3000"]
    for extra in ([], ["--pipeline=16", "--connections=3"],
                  ["--multiget=5", "--pipeline=3", "--requests=100"]):
        with server.connect() as client:
            client.talk(b"flush_all\r\n", b"OK\r\n")
        for misses in (500, 0):
            phase = bench(server, "--protocol=" + protocol, *options, *extra)
            assert (phase["hits"], phase["misses"]) == (500 - misses, misses)
            assert phase["filled"] == phase["stored"] == misses
    # As text finds it
    assert bench(server, "--keys=500", "--verify-all", "--value-size=0-3000")["hits"] == 500


@pytest.mark.parametrize("protocol", ["meta", "binary"])
@pytest.mark.parametrize("op", ["incr", "touch", "delete"])
def test_the_other_protocols_count_hits_and_misses(server, protocol, op):
    options = ["--protocol=" + protocol, "--op=" + op, "--requests=300",
               "--distribution=sequential", "--keys=300", "--pipeline=7"]
    assert bench(server, *options)["misses"] == 300
    assert run("--port=%d" % server.port, "--op=incr", "--keys=300", "--load",
               "--requests=1").returncode == 0
    assert bench(server, *options)["hits"] == 300
    with server.connect() as client:
        found = len(client.gets(*[b"key:%012d" % key for key in range(300)]))
    assert found == (0 if op == "delete" else 300)


class Redis(support.Server):
    def command(self):
        return [REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.data_dir,
                "--save", ""]


@pytest.fixture
def redis():
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    return Redis()


def test_a_redis_stores_and_finds(redis):
    everything = ["--protocol=redis", "--keys=500", "--value-size=0-3000"]
    options = [*everything, "--verify", "--fill", "--requests=500", "--distribution=sequential"]
    for extra in ([], ["--pipeline=16", "--connections=3"],
                  ["--multiget=5", "--pipeline=3", "--requests=100"]):
        with redis.connect() as client:
            client.talk(b"flushall\r\n", b"+OK\r\n")
        for misses in (500, 0):
            phase = bench(redis, *options, *extra)
            assert (phase["hits"], phase["misses"]) == (500 - misses, misses)
            assert phase["filled"] == phase["stored"] == misses
    with redis.connect() as client:
        client.talk(b"del key:000000000002\r\n", b":1\r\n")
    phase = bench(redis, *options, "--multiget=5", "--requests=100", "--connections=1")
    assert (phase["hits"], phase["misses"], phase["filled"]) == (499, 1, 1)
    assert bench(redis, *everything, "--verify-all", "--multiget=7")["hits"] == 500


def test_values_of_a_redis_that_are_not_those_of_their_keys_are_seen(redis):
    options = ["--protocol=redis", "--keys=100", "--json", "--port=%d" % redis.port]
    assert run(*options, "--load", "--value-seed=2").returncode == 0
    for extra in ([], ["--multiget=5"]):
        done = run(*options, *extra, "--verify-all")
        assert done.returncode == 1 and json.loads(done.stdout)["phases"][0]["wrong"] == 100


@pytest.mark.parametrize("op", ["incr", "touch", "delete"])
def test_hits_and_misses_of_a_redis_are_counted(redis, op):
    options = ["--protocol=redis", "--op=" + op, "--requests=300", "--distribution=sequential",
               "--keys=300", "--pipeline=7"]
    assert bench(redis, *options)["misses"] == 300
    assert run("--protocol=redis", "--port=%d" % redis.port, "--op=incr", "--keys=300", "--load",
               "--requests=1").returncode == 0
    assert bench(redis, *options)["hits"] == 300
    with redis.connect() as client:
        client.talk(b"dbsize\r\n", b":0\r\n" if op == "delete" else b":300\r\n")


def test_what_a_touch_of_a_redis_leaves(redis):
    for extra, least, most in (["--expire=100"], 90, 100), ([], 10**9, 10**10):
        bench(redis, "--protocol=redis", "--keys=1", "--load")
        bench(redis, "--protocol=redis", "--keys=1", "--op=touch", "--requests=1",
              "--connections=1", *extra)
        with redis.connect() as client:
            client.send(b"ttl key:000000000000\r\n")
            assert least <= int(client.line()[1:]) <= most


def test_sets_among_the_gets_are_no_fills(server):
    phase = bench(server, "--keys=1000", "--requests=2000", "--op=mix", "--ratio=1:1", "--fill",
                  "--verify")
    assert phase["hits"] + phase["misses"] + phase["stored"] - phase["filled"] == 2000
    assert 0 < phase["filled"] < phase["stored"]


def test_scans_bring_keys_that_were_never_there(server):
    options = ["--keys=50", "--distribution=scan", "--scan-every=100", "--scan-length=20",
               "--requests=1200", "--fill", "--verify", "--connections=1"]
    bench(server, "--keys=50", "--load")
    assert bench(server, *options)["misses"] == 200
    assert bench(server, *options, "--skip=1200")["misses"] == 200
    assert bench(server, *options)["misses"] == 0  # the same ones again


def test_skipping_goes_on_where_another_run_ended(server):
    options = ["--keys=100", "--distribution=sequential", "--fill", "--verify", "--threads=3",
               "--connections=3"]
    assert bench(server, *options, "--requests=30")["misses"] == 30
    assert bench(server, *options, "--requests=30", "--skip=30")["misses"] == 30
    assert server.stats()["curr_items"] == "60"


def test_a_trace_is_replayed_line_by_line(server):
    path = trace_file(b"".join(b"%s %d\r\n" % (key, size) for key, size in
                               [(b"a", 5), (b"/a/long?path", 2000), (b"a", 5), (b"b", 0),
                                (b"a", 5)]) + b"c\nc")
    phase = bench(server, "--trace=" + path, "--fill", "--verify", "--connections=1")
    assert (phase["hits"], phase["misses"], phase["filled"]) == (3, 4, 4)
    with server.connect() as client:
        sizes = {key: len(found[0])
                 for key, found in client.gets(b"a", b"/a/long?path", b"b", b"c").items()}
    assert sizes == {b"a": 5, b"/a/long?path": 2000, b"b": 0, b"c": 100}
    assert bench(server, "--trace=" + path, "--verify-all")["hits"] == 4


def test_threads_share_the_lines_of_a_trace(server):
    path = trace_file(b"".join(b"key-%d\n" % number for number in range(1001)))
    phase = bench(server, "--trace=" + path, "--fill", "--verify", "--threads=3", "--connections=5",
                  "--pipeline=7")
    assert (phase["hits"], phase["misses"]) == (0, 1001)
    assert bench(server, "--trace=" + path, "--requests=2002", "--threads=2",
                 "--connections=2")["hits"] == 2002


@pytest.mark.parametrize("content, said", [
    (b"", b"no request"), (b"a\n\nb\n", b"line 2"), (b"a b\n", b"line 1"), (b"k" * 251, b"line 1"),
    (b"a\nb 1073741825\n", b"line 2"),
])
def test_what_is_no_trace_is_refused_with_its_line(content, said):
    done = run("--trace=" + trace_file(content))
    assert done.returncode == 1 and said in done.stderr


def test_a_trace_that_is_not_there():
    done = run("--trace=/no/such/trace")
    assert done.returncode == 1 and b"/no/such/trace" in done.stderr


@pytest.mark.parametrize("options", [
    ["--fill", "--op=set"], ["--fill", "--load"], ["-D", "nonsense"], ["-D", "zip"],
    ["-D", "scan:"], ["-D", "shift:0"], ["-D", "uniform:1"], ["-D", "zipf:1x"],
    ["-D", "scan", "--scan-length=0"], ["-D", "shift", "--shift-every=0"],
    ["-D", "scan", "--key-size=15"], ["--trace=x", "-D", "zipf"],
], ids=" ".join)
def test_options_that_make_no_sense(options):
    done = run(*options)
    assert done.returncode == 2 and done.stderr


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "script/bench")


def run_script(*arguments):
    return subprocess.run([SCRIPT, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=support.TIMEOUT, check=False)


def subcommands():
    return re.findall(r"^  ([a-z]+) ", run_script("--help").stdout, re.MULTILINE)


def test_script_bench_has_the_subcommands_that_its_help_names():
    assert "compare" in subcommands()
    for name in subcommands():
        done = run_script(name, "--help")
        assert (done.returncode == 0 and
                done.stdout.startswith("usage: script/bench %s " % name)), done.stderr


def test_script_bench_compares_when_no_subcommand_is_named():
    assert run_script("--quick", "--help").stdout == run_script("compare", "--help").stdout


def test_script_bench_refuses_a_subcommand_that_it_does_not_have():
    for arguments in (["hit-ratio"], ["hit-ratio", "--no-build"]):
        done = run_script(*arguments)
        assert done.returncode == 2 and "no subcommand hit-ratio" in done.stderr and not done.stdout


def test_the_documents_name_subcommands_that_there_are():
    documents = [os.path.join(ROOT, name) for name in ("README.md", "CONTRIBUTING.md")]
    documents += [os.path.join(ROOT, "docs", name)
                  for name in os.listdir(os.path.join(ROOT, "docs")) if name.endswith(".md")]
    named = set()
    for path in documents:
        with open(path, encoding="utf-8") as file:
            named.update(re.findall(r"`script/bench([ -][a-z]+)", file.read()))
    assert named and named <= {" " + name for name in subcommands()}
