"""flatlab: measure and understand flat and sharp minima. The table of contents; everything is loaded when first used.

The house has four floors, and imports only go down:

reader   `plots` `panels` `claims` `predictions` `exercises`
work     `training` `optim` `compare` `safety` `study`
measure  `curvature` `sharpness` `landscape`
ground   `objective` `loss` `functions` `models` `data` `images` `names` `runtime`

At the door: `Objective` `Estimate` `NetworkLoss` `train` `threads` `device` `scale`. Begin with objective.py:
everything that can be minimised is an `Objective`, a scalar function of a parameter vector.
"""

import lazy_loader

__version__ = "0.1.0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names in __init__.pyi

# Rooms and names that are about to go.
_OLD_ROOMS = ("network", "records", "search", "batched", "ensemble", "twins", "minima", "statistics")
_OLD_NAMES = {"EnsembleLoss": "ensemble"}


def __getattr__(name: str):
    if name in __all__:
        return _load(name)
    if name in _OLD_ROOMS or name in _OLD_NAMES:
        from importlib import import_module

        room = import_module(f"flatlab.{_OLD_NAMES.get(name, name)}")
        return getattr(room, name) if name in _OLD_NAMES else room
    raise AttributeError(f"flatlab has no {name!r}; it offers: {', '.join(__all__)}")
