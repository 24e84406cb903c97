"""What all reports have in common: a path in the project, and how they are read and written."""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cpfd.errors import CpfdError
from cpfd.files import write_json


class Part(BaseModel):
    """A part of a report; refuses keys that it does not know and values of another type.

    Keys are written in the order of the fields. The docstring of a field is its description in docs/reports.md.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_by_name=True,
        serialize_by_alias=True,
    )

    def content(self) -> dict[str, Any]:
        """The part as JSON has it: dictionaries, lists, text and numbers."""
        return self.model_dump()


class Report(Part):
    """A JSON file that other modules read; `path` is where it lies in the project."""

    path: ClassVar[Path]

    @classmethod
    def read(cls, path: Path | None = None) -> Self:
        """Read the report from `path`, by default from its place in the current folder.

        Raises CpfdError where there is none, and where it was written by another version of CPFD.
        """
        path = path or cls.path
        if not path.is_file():
            raise CpfdError(f"{path}: not there yet; `dvc repro` makes it, `dvc pull` fetches it")
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> Self:
        """Read the report from its bytes, which errors call `name`; raises CpfdError as `read` does."""
        try:
            return cls.model_validate(json.loads(content))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise CpfdError(
                f"{name}: written by another version of CPFD ({f'{key}: ' if key else ''}{first['msg']});"
                " `dvc repro` writes it anew"
            ) from None
        except ValueError as error:
            raise CpfdError(f"{name}: not valid JSON: {error}") from None

    def write(self, path: Path | None = None) -> None:
        """Write the report to `path`, by default to its place in the current folder."""
        write_json(path or self.path, self.content())
