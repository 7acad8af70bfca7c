"""The stacked engine: the clients of a cohort that are alike work as one tensor program."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.checks import expect
from lkd.federated.client.stacked.cohort import StackedCohort
from lkd.federated.client.stacked.reasons import why_not
from lkd.federated.engines.base import Capabilities
from lkd.federated.engines.loop import Loop
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensors import Groups


class Stacked(Loop):
    """Trains clients of one architecture together, in this process.

    The module's own `training_step` runs for all of them at once, by `torch.func.vmap`, on weights with a
    leading dimension K, and so does its optimizer. That pays for many clients with small models, whose steps
    cost more in calls than in arithmetic. Batches are those of the loop, in the same order, and the result is
    the loop's within the rounding of sums; random draws in a step (dropout) are others, and each client has
    its own. Clients with different numbers of steps train in stacks of their own. So are gradients of whole
    data, and the methods of an algorithm that are `stackable`, such as predictions on public data. All else
    goes client by client, as in `Loop`.

    Not stacked are: modules with training hooks, or that change their attributes; accumulation over batches;
    optimizers that look at more than one weight; a scheduler that waits for a client's metric; algorithms that
    do not say `stacks = True`.

    Args:
        clients: Most clients of one stack. More of them need more memory. Default: 100.

    Raises:
        ValueError: If no architecture can be stacked, before the first round.

    Example:
        >>> from lkd.federated import Federation
        >>> from lkd.models import MLP
        >>> from lkd.modules import Classifier
        >>> federation = Federation(Classifier(MLP(64, 10), num_classes=10), engine=Stacked(clients=50))
    """

    capabilities = Capabilities(shares_memory=True, stacks=True)

    def __init__(self, clients: int = 100) -> None:
        super().__init__()
        expect(clients=clients, ge=2)
        self.clients = clients
        self._cohort: StackedCohort | None = None

    @property
    def cohort(self) -> StackedCohort:
        """Lets the clients of this process work together."""
        if self._cohort is None:
            self._cohort = StackedCohort(self.host, self.clients, self.tell)
        return self._cohort

    def open(self, description: Description) -> None:
        """Copies the modules."""
        super().open(description)
        self._cohort = None

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Prepares modules, optimizers and loops, and looks what can be stacked."""
        super().prepare(trainer, anew)
        self.look()

    def look(self) -> None:
        """Looks which architectures can be stacked.

        Raises:
            ValueError: If none can.
        """
        self.cohort.prepare(why_not)
        found = self.cohort.not_stacked
        if len(found) == len(self.host.slots):
            raise ValueError(
                f"engine=Stacked: {found[0]}; take engine=Loop(), which trains one client after the other."
            )
        for kind, why in found.items():
            self.tell(type(self.host.slots[kind].module).__name__, why)

    def tell(self, name: str, why: str) -> None:
        """Says that clients of an architecture are not stacked, and why."""
        rank_zero_warn(f"engine=Stacked: clients of {name} are trained one after the other, since {why}.")

    def state_dict(self) -> dict[str, Any]:
        """Returns the clients' states, and of each architecture schedule, start and what training has shown."""
        state = super().state_dict()
        for kind, slot in enumerate(state["slots"]):
            slot["stacked"] = {"engine": type(self).__name__, **self.cohort.state_of(kind)}
        return state

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Restores the clients' part of a checkpoint; a run of this engine goes on to stack the same clients."""
        super().load_state_dict(clients, slots)
        for kind, slot in enumerate(slots or ()):
            saved = slot.get("stacked")  # not there in a checkpoint of another engine
            if saved is not None and saved["engine"] == type(self).__name__:
                self.cohort.set_state_of(kind, saved)

    def _answers(self, verb: str, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        if self.cohort.stacks(verb):
            return self.cohort.answer(verb, messages, timeout)
        return super()._answers(verb, messages, timeout)
