"""One compute thread for all tests of the engine: two pools that spin on the same cores make them ten times slower."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
