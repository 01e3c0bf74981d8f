# The names of the course, for editors and type checkers. flatlab/__init__.py loads each one when it is first used.
from . import claims as claims
from . import compare as compare
from . import curvature as curvature
from . import data as data
from . import exercises as exercises
from . import functions as functions
from . import images as images
from . import landscape as landscape
from . import loss as loss
from . import models as models
from . import names as names
from . import objective as objective
from . import optim as optim
from . import panels as panels
from . import plots as plots
from . import predictions as predictions
from . import runtime as runtime
from . import safety as safety
from . import sharpness as sharpness
from . import study as study
from . import training as training
from .loss import NetworkLoss as NetworkLoss
from .objective import Estimate as Estimate
from .objective import Objective as Objective
from .runtime import device as device
from .runtime import scale as scale
from .runtime import threads as threads
from .training import train as train

__version__: str
__all__: list[str]
