"""Roads as the data of a detector, and a callback attached as a run does it."""

from lkd.datamodules import YoloFolder


def roads(root, **options):
    defaults = {"image_size": 96, "batch_size": 2, "fractions": (0.5, 0.0, 0.5), "color": 0.0}
    return YoloFolder(str(root), **(defaults | options))


def first_batch(root, **options):
    data = roads(root, **options)
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def attached(callback, batch, module):
    """A student with the callback's distiller attached as a run does it, and what it logs."""
    logs = {}
    module.log = lambda name, value, **_: logs.update({name: value.item()})
    module.log_dict = lambda values, **_: logs.update({n: v.item() for n, v in values.items()})
    callback.distiller.attach(module, batch)
    return module, logs
