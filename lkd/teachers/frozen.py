"""A model as a teacher holds it: frozen, in eval mode, in the teacher's precision."""

from torch import nn

from lkd.packages import is_module, overrides
from lkd.teachers.precision import Precision, set_precision
from lkd.teachers.scripted import require_eval


def frozen(model: nn.Module, precision: Precision | None) -> nn.Module:
    """Freezes a model in place.

    Args:
        model: The model that teaches.
        precision: The teacher's precision.

    Returns:
        The model.

    Raises:
        ValueError: If it has nothing by which it is asked.
    """
    if is_module(model) and not overrides(model, "forward") and not hasattr(model, "detect"):
        raise ValueError(
            f"model={type(model).__name__}(...) has no forward, by which a teacher is asked: write one, or give what computes its outputs, such as "
            "Teacher(module.net) or Teacher(lambda x: module.net(x))."
        )
    set_precision(model, precision)
    for parameter in model.parameters():  # scripted modules have no requires_grad_
        parameter.requires_grad = False
    require_eval(model)
    return model
