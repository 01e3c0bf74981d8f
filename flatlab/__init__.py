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


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"flatlab has no {name!r}; it offers: {', '.join(__all__)}")
    return _load(name)
