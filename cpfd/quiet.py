"""What libraries print and nobody can use, silenced line by line: all else that they have to say is shown."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any


def quiet_transformers() -> None:
    """Load and save weights without a bar, and drop old checkpoints without a doubt about their times.

    Bars of downloads are shown. Checkpoints that are less than a second apart go in the order of their numbers, which
    is the order of their times.
    """
    from transformers.utils.logging import set_tqdm_hook

    set_tqdm_hook(_no_bar)
    logging.getLogger("transformers.trainer_utils").addFilter(_is_no_doubt)


def _no_bar(_factory: Any, values: Sequence[Any], options: Mapping[str, Any]) -> Any:
    from transformers.utils.logging import EmptyTqdm

    return EmptyTqdm(*values, **options)


def _is_no_doubt(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("mtime may not be reliable")
