"""pytest's hooks: a time limit for every test, no servers left running, and their logs when a test
fails."""
import faulthandler
import signal

import pytest

import small_disks
import support


def pytest_configure(config):
    config.addinivalue_line("markers",
                            "seconds(n): the test may take so long "
                            "(default 60, with sanitizers 180)")


def pytest_sessionstart():
    support.begin_session()


def pytest_sessionfinish():
    support.end_session()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker("seconds")
    seconds = marker.args[0] if marker else 60
    if support.SANITIZED:
        seconds *= 3

    def stop(*_):
        faulthandler.dump_traceback(all_threads=True)
        signal.alarm(20)  # for the case that the clean-up hangs as well
        pytest.fail("the test has not ended after %d s" % seconds)

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    yield
    signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call" and call.excinfo is not None:
        for server in support.servers + support.shared_servers:
            outcome.get_result().sections.append(("%s (last start)" % " ".join(server.command()),
                                                  server_log(server)))


def server_log(server):
    try:
        return server.log()[-10000:]
    except (AttributeError, OSError):
        return "(never started)"


@pytest.fixture(autouse=True)
def no_server_stays():
    yield
    complaints = support.end_test()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def server():
    """A server with nothing special about it."""
    return support.Server()


@pytest.fixture
def client(server):
    return server.connect()


@pytest.fixture
def small_disk():
    """Makes small disks (small_disks.py), and skips the test where none can be had."""
    disks = []

    def make(*arguments):
        try:
            disks.append(small_disks.SmallDisk(*arguments))
        except small_disks.Unavailable as reason:
            pytest.skip(str(reason))
        return disks[-1]

    yield make
    for server in support.servers:
        server.give_up()
    for disk in disks:
        disk.remove()
