"""How much a clip may cost; a module of its own, since commands show its defaults and import nothing heavy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpfd.params.schema import Validation


@dataclass(frozen=True)
class Limits:
    """What a clip may cost; checked before anything of it is decoded."""

    max_seconds: float = 600.0
    max_side: int = 8192
    """Pixels; no picture may have more than max_side * max_side of them."""
    max_megabytes: int = 1024
    """10^6 bytes of file."""
    group: str = ""
    """What stands before these names where they are set: `validation.` in params.yaml."""

    @staticmethod
    def of(validation: "Validation") -> "Limits":
        """Those of params.yaml."""
        return Limits(validation.max_seconds, validation.max_side, validation.max_megabytes, "validation.")
