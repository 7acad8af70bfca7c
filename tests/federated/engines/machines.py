"""What befalls machines, for tests with real processes: they are killed, frozen, cut off, and started again."""

import asyncio
import contextlib
import functools
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from lkd.federated.engines import Loop
from lkd.federated.protocol.messages import Reply
from lkd.flare import deployment as module
from lkd.flare.kit import read_kit

SITE, HOST, APART = "lkdtest", "10.213.77.1", 2
"""Name of the network of site `APART`, and the address of this machine in it."""


@functools.cache
def separable():
    """Whether this machine lets a test make a network of its own."""
    if os.geteuid() != 0 or shutil.which("ip") is None or Path("/var/run/netns", SITE).exists():
        return False
    with contextlib.suppress(subprocess.CalledProcessError):
        ip("netns", "add", SITE)
        ip("netns", "del", SITE)
        return True
    return False


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def forward(port):
    """Carries connections from the other network to a server that listens at this machine's loopback alone."""

    async def carry(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async def serve():
        async with await asyncio.start_server(accept, HOST, port) as server:
            await server.serve_forever()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()


@contextlib.contextmanager
def networks():
    """Puts the last site into a network namespace, as if it were another host; its cable is `SITE`."""
    if not separable():
        yield
        return
    names = Path(
        "/etc/netns", SITE, "hosts"
    )  # in there, the name of the server's certificate is this machine's
    try:
        ip("netns", "add", SITE)
        ip("link", "add", SITE, "type", "veth", "peer", "name", "eth0", "netns", SITE)
        ip("addr", "add", f"{HOST}/30", "dev", SITE)
        ip("link", "set", SITE, "up")
        ip("-n", SITE, "addr", "add", "10.213.77.2/30", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", SITE, "link", "set", device, "up")
        names.parent.mkdir(parents=True)
        names.write_text(f"{HOST} localhost\n")
        command, ports = module.command, set()

        def there(kit):
            if kit.name != f"site-{APART}":
                return command(kit)
            if (port := read_kit(kit).port) not in ports:
                forward(port)
                ports.add(port)
            return ["ip", "netns", "exec", SITE, *command(kit)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "command", there)
            yield
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", SITE)
        shutil.rmtree(names.parent, ignore_errors=True)


def processes(engine, number, word=""):
    """The processes of a site whose command has a word."""
    import psutil

    running = engine._deployment._running
    found = []
    for each in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(each.pid)
            if f"uid=site-{number}" in parent.cmdline():
                found += [
                    p for p in [*parent.children(recursive=True), parent] if word in " ".join(p.cmdline())
                ]
    return found


def ended(process):
    """Whether a process does nothing any more, though its parent may not have looked yet."""
    import psutil

    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def give(engine, data):
    """Gives all sites other data, as their owners would by editing their files; their training processes read them anew."""
    if engine._deployment is None:  # the first fit starts them with what its description says
        return
    for number in range(engine.sites):
        path = engine._deployment.kit.parent / f"site-{number}/camera.yaml"
        local = json.loads(path.read_text())
        if local["data"] == data:
            continue
        path.write_text(json.dumps({**local, "data": data}))
        for process in processes(engine, number, "site_process"):
            process.kill()
            wait(lambda process=process: ended(process))  # else the next command could still reach it


def start_again(engine, number):
    """Starts a site that was killed, as its owner would."""
    kit = engine._deployment.kit.parent / f"site-{number}"
    engine._deployment.start(kit, kit / "camera.yaml")


def wait(until, seconds=180):
    """Waits for something that has to happen."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.1)


class Befalls(Callback):
    """Callback that does something to a site before a round, and something else after it or before a later one.

    Args:
        engine: The engine.
        at: The round; its first client's site is the one, or `site`.
        does: What is done, given the site's number.
        then: What is done before round `back`, after which all take part again.
        back: That round.
    """

    def __init__(self, engine, at, does, then=None, back=None, site=None):
        self.engine, self.at, self.does, self.then, self.back, self.site = engine, at, does, then, back, site
        self.errors = []

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == self.at:
            self.site = batch[0].id % 3 if self.site is None else self.site
            self.does(self.site)
        if trainer.current_epoch == self.back:
            self.then(self.site)

    def on_train_batch_end(self, trainer, module, *args):
        self.errors.append({record.client: record.error for record in module.records if record.error})

    def missed(self):
        """Who missed which rounds."""
        return {at: set(errors) for at, errors in enumerate(self.errors) if errors}


class Misses(Loop):
    """A loop in which clients do nothing in some rounds, as if they were not there.

    Args:
        missed: Clients by round.
    """

    def __init__(self, missed):
        super().__init__()
        self.missed = missed

    def exchange(self, verb, messages, timeout=None):
        missing = [k for k, m in messages.items() if k in self.missed.get(m.config["round"], ())]
        yield from super().exchange(verb, {k: m for k, m in messages.items() if k not in missing}, timeout)
        yield from (Reply(client=client, error="missing") for client in missing)
