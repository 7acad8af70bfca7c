"""Teachers: where distillation targets come from."""

from lkd.teachers.cached import CachedTeacher
from lkd.teachers.ema import EMATeacher
from lkd.teachers.ensemble import Ensemble
from lkd.teachers.pseudo_labels import PseudoLabels, detect_in_view
from lkd.teachers.teacher import Teacher

__all__ = ["CachedTeacher", "EMATeacher", "Ensemble", "PseudoLabels", "Teacher", "detect_in_view"]
