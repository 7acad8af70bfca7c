"""The local YAML of a site, which never travels: its data, and what a server may name there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated.engines.local_checks import check_local
from lkd.parser import Parser
from lkd.unique_keys import load_yaml


@dataclass
class LocalFile:
    """What a site knows and nobody else.

    Attributes:
        data: Class path and arguments of its data module; one without clients is a single client.
        folder: Folder for what its clients keep from round to round.
        allow: Packages, modules or classes, beside lkd's own and torch's, that a server's configuration may
            name here.
        turn: `[k, n]`: of the data's clients those whose number leaves the rest k by n. Default: all.
        fractions: Shares (train, val, test) of the rows of data without clients.
        accelerator: Where it trains.
        threads: Threads of torch.
    """

    data: dict[str, Any]
    folder: Path
    allow: Sequence[str] = ()
    turn: tuple[int, int] = (0, 1)
    fractions: tuple[float, float, float] = (1.0, 0.0, 0.0)
    accelerator: str = "cpu"
    threads: int = 1

    @classmethod
    def read(cls, path: Path) -> "LocalFile":
        """Reads the file, and writes nothing.

        Raises:
            ValueError: If it is not such a file; the message says what is wrong, and what would be right.
        """
        try:
            told = load_yaml(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} must be YAML, and is none: {' '.join(str(error).split())}.") from None
        if not isinstance(told, dict) or "data" not in told:
            raise ValueError(f"{path} must say what the data are: `data:` with a class_path and init_args.")
        check_local(path, {"folder": str(path.with_name(f"{path.stem}_state")), **told})
        folder = Path(told.pop("folder", path.with_name(f"{path.stem}_state"))).absolute()
        return cls(folder=folder, **told)

    def numbers(self, clients: int) -> range:
        """Returns the numbers of this site's clients among those of its data."""
        return range(self.turn[0], clients, self.turn[1])

    def make_data(self) -> Any:
        """Makes the data module, which has clients then."""
        parser = Parser(exit_on_error=False)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        data = parser.instantiate(parser.parse_object(Namespace(data=self.data)))["data"]
        if hasattr(type(data), "clients") or hasattr(data, "clients"):
            return data
        return FederatedDataModule(data, IID(), clients=1, client_fractions=self.fractions)
