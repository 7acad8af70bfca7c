"""The verb `camera`: looks whether this machine can take part in a federation, and joins it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lkd.flare.checks import look
from lkd.flare.kit import serves
from lkd.flare.kits import close, command
from lkd.flare.local import LOCAL


def run(args: Sequence[str]) -> None:
    """Looks at everything, says it line by line, and joins if all is well; then this process is the site.

    Args:
        args: `--data local.yaml --kit DIR`, and `--check` to look alone, which writes nothing. Of a server's
            kit, without `--data`: looks, and starts the server, closed likewise.

    Raises:
        SystemExit: With code 1, if something is wrong.
    """
    parser = argparse.ArgumentParser(prog="python cli.py camera", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="The local YAML, which never travels; none for a server's kit."
    )
    parser.add_argument("--kit", required=True, type=Path, help="Folder of this site's kit.")
    parser.add_argument("--check", action="store_true", help="Look, and do not join.")
    said = parser.parse_args(list(args))
    kit, server = said.kit.absolute(), serves(said.kit)
    if server and said.data is not None:
        sys.exit(f"--kit={said.kit} is a server's, which has no use for --data.")
    if not server and said.data is None:
        sys.exit("camera needs --data LOCAL.yaml, which says what the data are.")
    well = True
    for name, told, good in look(kit):
        print(f"{name:>9}: {told}" if good else f"{name:>9}: NO: {told}", flush=True)
        well = well and good
    if not server:
        well = _data(said.data) and well
    if not well:
        sys.exit(f"camera: not {'started' if server else 'joined'}; what is wrong is above, after NO.")
    if said.check:
        return
    if server:
        print("    start: the server; Ctrl+C ends it", flush=True)
        return _become(kit, {})
    print(f"     join: as {kit.name}; Ctrl+C leaves", flush=True)
    _become(kit, {LOCAL: str(said.data.absolute())})


def _become(kit: Path, more: dict[str, str]) -> None:
    """Turns this process into the server or site of a kit."""
    try:
        close(kit)  # whatever the kit said before: no code of others, and two classes of lkd
    except ValueError as error:
        sys.exit(f"camera: {error}")
    start = command(kit)
    os.execve(start[0], start, {**os.environ, **more})


def _data(path: Path) -> bool:
    """Reads a batch of each client, as the training will."""
    try:
        from lkd.federated.engines.local_file import LocalFile

        file = LocalFile.read(path)
        data = file.make_data()
        data.prepare_data()
        data.setup("fit")
        numbers = file.numbers(len(data.clients))
        clients = data.clients[list(numbers)]
        for client in clients:
            next(iter(client.train_batches(0)))
    except (Exception, SystemExit) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        print(f"     data: NO: {told if str(path) in told else f'{path}: {told}'}", flush=True)
        return False
    samples = sum(client.num_samples for client in clients)
    if not clients:
        print(f"     data: NO: {path}: there is no client for turn={list(file.turn)}", flush=True)
        return False
    print(
        f"     data: {samples} training samples of {len(clients)} client{'s' * (len(clients) > 1)}",
        flush=True,
    )
    return True
