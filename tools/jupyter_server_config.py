"""What `make lab` adds to JupyterLab: a notebook is saved as the repository keeps it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import notebooks


def as_kept(model, **_):
    """Before a save: no widget views, no progress bars; results that running has unfolded are folded again.

    The cells are changed in place, because jupytext writes the twin from the same ones.
    """
    if model["type"] == "notebook" and model.get("content"):
        notebooks.clean(model["content"])


c = get_config()  # noqa: F821
c.ContentsManager.pre_save_hook = as_kept
