"""lkd: knowledge distillation for federated and decentralized learning at the edge, native to Lightning.

Import from the sub-packages: `lkd.losses`, `lkd.teachers`, `lkd.models`, `lkd.modules`, `lkd.metrics`,
`lkd.datamodules` and `lkd.callbacks`. This file imports nothing, so that `lkd --help` answers at once.
"""

__version__ = "0.2.0"  # the only place where it is written
