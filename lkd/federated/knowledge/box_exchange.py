"""Detectors that exchange boxes on public frames, with all others or along a graph."""

from typing import TYPE_CHECKING

import numpy as np

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.box_codec import check_finds, find, learn, pack, unpack
from lkd.federated.knowledge.common.box_fusion import Confidence, weighted_box_fusion
from lkd.federated.knowledge.common.forward import draw
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.aggregation import ClientReply
from lkd.federated.topology import Topology
from lkd.federated.topology.base import check_topology

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class BoxExchange(Algorithm):
    """FedMD for detectors: cameras send the boxes that they find in public frames, and learn the fused boxes.

    In a round, each camera sends its most confident boxes. Those of all cameras, or of the camera and its
    neighbors on a graph, are joined by weighted box fusion (Solovyev et al. 2021, arXiv:1910.13302). Then the
    camera trains its own loss on the public frames with the fused boxes as labels, and after that on its own
    frames. So any two detectors can learn from each other, whatever their grids and families. The loop is
    that of FedMD (Li and Wang 2019, arXiv:1910.03581, Algorithm 1); boxes in place of class scores are our
    choice, as averages of dense outputs need one grid. Travels: 11 bytes per box and 4 per frame, up; the
    same of the fused boxes, down. Without a graph, they travel once to a server and back; on a graph, the
    fused boxes stand for what the neighbors sent.

    Args:
        topology: Who learns from whom; None: everybody learns from everybody.
        samples: Public frames in a round, drawn anew each round; None for all.
        score_threshold: Boxes of a lower score are not sent.
        top: Most boxes of a frame.
        iou_threshold: Overlap above which boxes count as one.
        fused_threshold: Fused boxes of a lower score are not learned.
        confidence: Score of a fused box. With `"mean"` a box that only one of N cameras sees, with score s,
            gets s / N. `"max"` is the score of the most confident camera, which keeps what only one camera
            knows or imagines.
        epochs: Passes over the public frames in a round.
        batch_size: Frames in a step.
        warmup: Rounds of private training before the first exchange.

    Raises:
        ValueError: For numbers out of range; in the first round, for data without public frames or modules
            without `detect`.

    Example:
        >>> BoxExchange(score_threshold=0.25).epochs
        1
    """

    aggregates_weights = False
    supports_multiple_models = True
    needs_public_data = True

    def __init__(
        self,
        topology: Topology | None = None,
        samples: int | None = None,
        score_threshold: float = 0.25,
        top: int = 100,
        iou_threshold: float = 0.55,
        fused_threshold: float = 0.2,
        confidence: Confidence = "mean",
        epochs: int = 1,
        batch_size: int = 8,
        warmup: int = 1,
    ) -> None:
        super().__init__("uniform")
        expect(score_threshold=score_threshold, fused_threshold=fused_threshold, ge=0, lt=1)
        expect(iou_threshold=iou_threshold, gt=0, lt=1)
        expect(samples=samples, ge=1, none="all of them")
        expect(top=top, epochs=epochs, batch_size=batch_size, ge=1)
        expect(warmup=warmup, ge=0)
        if topology is not None:
            check_topology(topology)
        self.topology, self.samples = topology, samples
        self.score_threshold, self.top = score_threshold, top
        self.iou_threshold, self.fused_threshold = iou_threshold, fused_threshold
        expect(confidence=confidence, among=("mean", "max"))
        self.confidence = confidence
        self.epochs, self.batch_size, self.warmup = epochs, batch_size, warmup

    def round(self, server: "ServerRound") -> Tensors:
        """Collects the cameras' boxes, fuses them for each camera, and lets cameras learn and train."""
        server.public  # noqa: B018  # raises without public data, before anything is trained
        for model in server.models:
            check_finds(model)
        if self.topology is not None and server.index == 0:
            self.topology.check(server.population)
        edges = None if self.topology is None else self.topology.edges(server.population, server.index)
        if server.index < self.warmup:
            return server.mean(server.train())["delta"]
        config = {"seed": server.seed}
        told = server.gather(server.call("tell_boxes", config=config))
        if edges is None:
            everybody = self._fuse(told)
            fused = {k: everybody for k in server.cohort}
        else:
            heard = {k: [t for t in told if t.client == k or t.client in edges[k]] for k in server.cohort}
            fused = {k: self._fuse(who) for k, who in heard.items() if who and server.owns(k)}
        return server.mean(server.train(knowledge=fused, config=config))["delta"]

    def _fuse(self, told: list[ClientReply]) -> Tensors:
        """Fuses the packed boxes of some cameras, frame by frame."""
        packed = [t.knowledge for t in told]
        return fuse(packed, self.iou_threshold, self.fused_threshold, self.confidence)

    def tell_boxes(self, context: ClientContext) -> None:
        """Finds a camera's boxes in the round's public frames, and replies them."""
        context.reply_tensors = find(
            context.module,
            context.public,
            self._rows(context),
            context.loop,
            self.batch_size,
            self.score_threshold,
            self.top,
        )

    def begin(self, context: ClientContext) -> None:
        """Lets a camera learn the fused boxes, before it trains on its own frames."""
        if "counts" in context.knowledge:
            learn(
                context.module,
                context.optimizer,
                context.public,
                self._rows(context),
                context.knowledge,
                context.loop,
                context.seed,
                self.epochs,
                self.batch_size,
            )
            context.loop.local_optimizer.begin_client()  # no momentum from the public pass

    def _rows(self, context: ClientContext) -> np.ndarray:
        return draw(context.config["seed"], context.round, len(context.public), self.samples)


def fuse(
    packed: list[Tensors], iou_threshold: float, fused_threshold: float, confidence: Confidence = "mean"
) -> Tensors:
    """Fuses several detectors' packed boxes, frame by frame.

    Args:
        packed: Boxes of each detector in the same frames, see
            `lkd.federated.knowledge.common.box_codec.pack`.
        iou_threshold: Overlap above which boxes count as one.
        fused_threshold: Fused boxes of a lower score are left out.
        confidence: Score of a fused box, see `weighted_box_fusion`.

    Returns:
        The fused boxes, packed.
    """
    frames = zip(*[unpack(one) for one in packed], strict=True)
    joint = [weighted_box_fusion(frame, iou_threshold, confidence) for frame in frames]
    return pack([{k: v[f["scores"] >= fused_threshold] for k, v in f.items()} for f in joint])
