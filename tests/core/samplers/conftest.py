"""One thread, as everywhere in the tests of the core."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
