"""The mechanism of distillation: a teacher and loss terms attached to any module, and detached again."""

from lkd.distillation.distiller import Distiller

__all__ = ["Distiller"]
