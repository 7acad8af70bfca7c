"""FedDF for detectors: the server's detector learns the fused boxes of the clients' detectors."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from lkd.checks import expect
from lkd.copies import copied
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.client.configured_optimizers import parse
from lkd.federated.knowledge.box_exchange import fuse
from lkd.federated.knowledge.common.box_codec import check_finds, find, learn
from lkd.federated.knowledge.common.box_fusion import Confidence
from lkd.federated.knowledge.common.client_ensemble import as_client
from lkd.federated.knowledge.common.forward import draw
from lkd.federated.knowledge.feddf import check_whole_models
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FedDFBoxes(Algorithm):
    """FedAvg, after which the server's detector learns the clients' fused boxes on public frames.

    The loop is that of FedDF (Lin et al., NeurIPS 2020, arXiv:2006.07242, Algorithms 1 and 3; several
    architectures each start from the mean of their own clients, and all learn from all). Weighted box fusion
    (Solovyev et al. 2021, arXiv:1910.13302) replaces the mean logits, and the detector's own loss replaces
    the divergence. The server trains with the module's own optimizer, begun anew each round. Travels what
    FedAvg's does; the public frames stay at the server.

    Args:
        epochs: Passes over the public frames in a round. At 0 this is FedAvg.
        samples: Public frames in a round, drawn anew each round; None for all.
        score_threshold: Boxes of a lower score are not fused.
        top: Largest number of boxes per frame and client.
        iou_threshold: Overlap above which boxes count as one.
        fused_threshold: Fused boxes of a lower score are not learned.
        confidence: Score of a fused box, see `BoxExchange`.
        batch_size: Frames in a step.
        weighting: How clients' weights are averaged.

    Raises:
        ValueError: For numbers out of range; in the first round, for data without public frames or
            modules without `detect`.
    """

    supports_multiple_models = True
    needs_public_data = True

    def __init__(
        self,
        epochs: int = 1,
        samples: int | None = None,
        score_threshold: float = 0.25,
        top: int = 100,
        iou_threshold: float = 0.55,
        fused_threshold: float = 0.2,
        confidence: Confidence = "mean",
        batch_size: int = 8,
        weighting: Weighting = "samples",
    ) -> None:
        super().__init__(weighting)
        expect(epochs=epochs, ge=0)
        expect(batch_size=batch_size, top=top, ge=1)
        expect(samples=samples, ge=1, none="all of them")
        expect(score_threshold=score_threshold, fused_threshold=fused_threshold, ge=0, lt=1)
        expect(iou_threshold=iou_threshold, gt=0, lt=1)
        expect(confidence=confidence, among=("mean", "max"))
        self.confidence = confidence
        self.trains_server_model = epochs > 0  # also where no client has its architecture
        self.epochs, self.samples, self.batch_size = epochs, samples, batch_size
        self.score_threshold, self.top = score_threshold, top
        self.iou_threshold, self.fused_threshold = iou_threshold, fused_threshold

    def round(self, server: "ServerRound") -> Tensors:
        """Averages the weights, then distills into each architecture."""
        if not self.epochs:
            return super().round(server)
        check_whole_models(server, "FedDFBoxes")
        for model in server.models:
            check_finds(model)
        rows = draw(server.seed, server.index, len(server.public), self.samples)
        found: list[tuple[int, Tensors]] = []
        delta = server.mean(self._listen(server, rows, found))["delta"]
        everyone = sorted(
            (one for part in server.gather_objects(found) for one in part), key=lambda one: one[0]
        )
        packed = [packed for _, packed in everyone]
        fused = fuse(packed, self.iou_threshold, self.fused_threshold, self.confidence)
        for kind in range(len(server.models)):
            delta |= self._distilled(server, kind, delta, rows, fused)
        return delta

    def _listen(
        self, server: "ServerRound", rows: np.ndarray, found: list[tuple[int, Tensors]]
    ) -> Iterator[Reply]:
        """Passes the clients' replies on, and runs each client's detector on the public frames on the way."""
        models = [copied(model, "model") for model in server.models]
        for reply in server.train():
            model = as_client(server, models, reply)
            said = find(
                model, server.public, rows, server.runtime, self.batch_size, self.score_threshold, self.top
            )
            found.append((reply.client, said))
            yield reply

    def _distilled(
        self, server: "ServerRound", kind: int, delta: Tensors, rows: np.ndarray, fused: Tensors
    ) -> Tensors:
        """Returns the change of one architecture's weights, and gives its buffers to the server."""
        layout, student = server.layout(kind), copied(server.models[kind], "model")
        tensors = {**dict(student.named_parameters()), **dict(student.named_buffers())}
        buffers = server.mean_buffers()
        with torch.no_grad():
            for own, at in layout.weights.items():
                tensors[own].add_(delta[at])
            for own, at in layout.buffers.items():
                tensors[own].copy_(buffers.get(at, tensors[own]))
        optimizer = parse(student.configure_optimizers(), type(student).__name__)[0]
        seed = derive(server.seed, server.index, server.population + kind)  # differs from all clients' seeds
        seed_everything(seed, student.device)
        with torch.enable_grad():
            learn(
                student,
                optimizer,
                server.public,
                rows,
                fused,
                server.runtime,
                seed,
                self.epochs,
                self.batch_size,
            )
        server.set_buffers({at: tensors[own].detach() for own, at in layout.buffers.items()})
        return {at: tensors[own].detach() - server.x[at] for own, at in layout.weights.items()}
