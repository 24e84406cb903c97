"""How long a network may be trained."""

import math


def epoch_steps(labelled: int, batch_size: int) -> int:
    """Optimiser steps of an epoch: a pass over the labelled clips, whatever else a method learns from."""
    return math.ceil(labelled / batch_size)
