"""Ways to share the work besides the cascade: early exit, and split computing."""

from lkd.edge.offload.arms.arm import Arm
from lkd.edge.offload.arms.bottleneck import Bottleneck
from lkd.edge.offload.arms.early_exit import EarlyExit
from lkd.edge.offload.arms.sent_exit import SentExit

__all__ = ["Arm", "Bottleneck", "EarlyExit", "SentExit"]
