"""gcloud without its start: a process that has imported gcloud forks for each command.

    subprocess.run(["gcloud", "functions", "list"], env=os.environ | {"PATH": f"{zygote().folder}:…"})

A command is gcloud's own code, with the arguments, environment, folder and files of who started it; what is left out is
the half second of CPU in which it imports itself. In `folder` lies a program named gcloud that hands a command over; it
ends with what the command ends with, and the command ends where the program is killed. The process, and its folder, are
gone when whoever started it is. This file is run by gcloud's Python as well, so it needs the standard library only.
"""

import atexit
import contextlib
import gc
import importlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

TIMEOUT = 60.0
_LENGTH = 8  # bytes that say how long an order is
# What many commands import, beside gcloud itself.
_MODULES = (
    "googlecloudsdk.gcloud_main",
    "googlecloudsdk.api_lib.functions.v2.util",
    "googlecloudsdk.calliope.parser_completer",
    "googlecloudsdk.command_lib.concepts.concept_managers",
    "googlecloudsdk.command_lib.run.connection_context",
    "googlecloudsdk.command_lib.run.flags",
    "googlecloudsdk.command_lib.run.serverless_operations",
    "googlecloudsdk.command_lib.tasks.app",
    "googlecloudsdk.command_lib.util.apis.arg_marshalling",
    "googlecloudsdk.core.credentials.http",
    "googlecloudsdk.core.credentials.p12_service_account",
    "proto",
)
# An order is the folder, how many arguments there are, those, and the environment. `socket` and `json` would take
# longer to import than all of this takes.
_PROGRAM = """#!{python} -IS
import os, sys, _socket
zygote = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
zygote.connect({address!r})
variables = [b"=".join(each) for each in os.environb.items()]
arguments = [os.fsencode(each) for each in sys.argv[1:]]
order = b"\\0".join([os.getcwdb(), b"%d" % len(arguments), *arguments, *variables])
files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
zygote.sendmsg([len(order).to_bytes({length}, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
zygote.sendall(order)
status = zygote.recv(1)
sys.exit(status[0] if status else "gcloud was killed")
"""


@cache
def installed() -> tuple[str, str]:
    """Return gcloud's Python and the folder it is installed in, by its own word."""
    command = ["gcloud", "info", "--format=value(basic.python_location,installation.sdk_root)"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CLOUDSDK_CONFIG": folder}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    python, root = said.stdout.strip().split("\t")
    return python, root


class GcloudZygote:
    """`folder` has to come first in the PATH of what starts gcloud."""

    def __init__(self) -> None:
        python, root = installed()
        self.folder = Path(tempfile.mkdtemp(prefix="gcloud-"))  # a socket's path must be short
        address = str(self.folder / "socket")
        program = self.folder / "gcloud"
        text = _PROGRAM.format(python=sys.executable, address=address, length=_LENGTH)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
        self._process = subprocess.Popen(
            [python, "-S", __file__, address, root],
            env=os.environ | {"CLOUDSDK_CONFIG": str(self.folder), "CLOUDSDK_ROOT_DIR": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self._process.stdout is None or not self._process.stdout.readline():
            self.close()
            raise AssertionError("gcloud could not be imported")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(TIMEOUT)


@cache
def zygote() -> GcloudZygote:
    """Return the one of this process, which ends with it."""
    made = GcloudZygote()
    atexit.register(made.close)
    return made


def serve(address: str, root: str) -> None:
    """Fork for each order, until standard input ends: who started this is gone then."""
    sys.path[0] = f"{root}/lib"
    gcloud = importlib.import_module("gcloud")
    for name in _MODULES:
        importlib.import_module(name)
    gc.freeze()  # what is here stays shared with the children
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _carry_out(connection, gcloud)
            connection.close()
            _reap(os.WNOHANG)
    _reap(0)
    shutil.rmtree(Path(address).parent)


def _reap(options: int) -> None:
    """Forget the children that have ended, so that their CPU is counted as this process'."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _carry_out(connection: socket.socket, gcloud: Any) -> None:
    """Run one command in this process, which ends with it."""
    status = 1
    try:
        length, files, *_ = socket.recv_fds(connection, _LENGTH, 3)
        order = b""
        while len(order) < int.from_bytes(length, "big"):
            order += connection.recv(65536)
        folder, count, *words = map(os.fsdecode, order.split(b"\0"))
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(each.split("=", 1) for each in words[int(count) :])
        sys.argv[1:] = words[: int(count)]
        # The settings were read when gcloud was imported, from where there are none.
        importlib.import_module("googlecloudsdk.core.configurations.named_configs").ActivePropertiesFile.Invalidate()
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        gcloud.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(OSError):
            connection.send(bytes([status]))
        os._exit(status)


def _end_with(connection: socket.socket) -> None:
    """Die with the program that gave the order, which says nothing more and is gone when it is killed."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os._exit(1)


if __name__ == "__main__":
    serve(*sys.argv[1:])
