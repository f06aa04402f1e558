"""A server whose limit of open files is low, and that cannot raise it."""
import os

import support
from support import Server


class LimitedServer(Server):
    """Its soft and its hard limit of open files are `limit`."""
    limit = 256

    def __init__(self, *options, **how):
        # Root may raise its limit again.
        self.program = support.program_for_all() if support.is_root() else None
        super().__init__(*options, **how)

    def command(self):
        command, limited = super().command(), ["prlimit",
                                               "--nofile=%d:%d" % (self.limit, self.limit)]
        if not support.is_root():
            return limited + command
        assert command[1:3] == ["-u", "nobody"]
        return limited + ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                          self.program] + command[3:]


def limited_server(*options, limit=LimitedServer.limit, **how):
    return type("Limited", (LimitedServer,), {"limit": limit})(*options, **how)


def descriptors(server):
    return len(os.listdir("/proc/%d/fd" % server.process.pid))
