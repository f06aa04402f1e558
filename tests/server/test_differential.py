"""Random commands of every protocol to Debian's memcached and to us: the answers are the same, but
for differences.py."""
import os
import random

import pytest

import differential
import support

pytestmark = pytest.mark.skipif(not os.path.exists(differential.MEMCACHED),
                                reason="no memcached to compare with")

COMMANDS, COMMANDS_SPLIT = (1000000, 100000) if support.LONG else (20000, 2000)
SEED = int(os.environ.get("SEED", random.randrange(1000000)))


@pytest.fixture(scope="module")
def pair():
    servers = differential.start_pair(shared=True)
    yield servers
    complaints = [server.give_up() for server in servers]
    for server in servers:
        support.shared_servers.remove(server)
    assert not any(complaints), complaints


@pytest.mark.seconds(3600 if support.LONG else 60)
@pytest.mark.parametrize("protocol", ["text", "meta", "binary"])
def test_random_commands(pair, protocol):
    print("seed %d" % SEED)
    assert differential.run(protocol, SEED, COMMANDS, pair) >= COMMANDS


@pytest.mark.seconds(3600 if support.LONG else 60)
@pytest.mark.parametrize("protocol", ["text", "meta", "binary"])
def test_random_commands_in_small_pieces(pair, protocol):
    print("seed %d" % SEED)
    assert differential.run(protocol, SEED, COMMANDS_SPLIT, pair, split=True) >= COMMANDS_SPLIT


def test_a_difference_is_found_and_can_be_repeated():
    # Without CAS
    servers = [differential.Memcached(*differential.OPTIONS),
               differential.Memcached(*differential.OPTIONS, "-C")]
    with pytest.raises(differential.Difference) as found:
        differential.run("text", 1, 20000, servers)
    assert "the answers differ" in str(found.value) and "--protocol text --seed" in str(found.value)
    assert str(found.value).count("  sent ") <= 3  # what does not matter has been left out
