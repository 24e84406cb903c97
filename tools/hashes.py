"""Adds hashes to a list of pinned libraries: `python tools/hashes.py < pinned.txt`, as `make lock` does.

Each line `name==version` gets the SHA-256 of every wheel of it that PyPI has for Linux and the Python versions of this
project, or of the source where there is no such wheel, and of what pip would install here, if that comes from
elsewhere, such as PyTorch's index of builds without CUDA.
"""

import json
import subprocess
import sys
import urllib.request

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_sdist_filename, parse_wheel_filename

PYTHONS = ("311", "312", "313")


def main() -> None:
    """Read the list from standard input and print it with hashes."""
    pinned = [line.strip() for line in sys.stdin if line.strip()]
    here = _installed_here(pinned)
    for line in pinned:
        name, version = line.split("==")
        found = _published(name, version) | {here[canonicalize_name(name)]}
        print(" \\\n    ".join([line, *(f"--hash=sha256:{digest}" for digest in sorted(found))]))


def _published(name: str, version: str) -> set[str]:
    """The digests of what PyPI has of a version: of wheels for Linux, or else of the source."""
    listing = f"https://pypi.org/simple/{canonicalize_name(name)}/"
    request = urllib.request.Request(listing, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = {each["filename"]: each["hashes"]["sha256"] for each in json.load(answer)["files"]}
    wheels = {digest for file, digest in files.items() if _is_wheel(file, version)}
    return wheels or {digest for file, digest in files.items() if _is_source(file, version)}


def _installed_here(pinned: list[str]) -> dict[str, str]:
    """The digest of the file of each library that pip would install here, by the library's normalised name."""
    command = ["install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", *pinned]
    report = subprocess.run([sys.executable, "-m", "pip", *command], stdout=subprocess.PIPE, check=True)
    return {
        canonicalize_name(each["metadata"]["name"]): each["download_info"]["archive_info"]["hashes"]["sha256"]
        for each in json.loads(report.stdout)["install"]
    }


def _is_wheel(file: str, version: str) -> bool:
    try:
        _, found, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return False
    return str(found) == version and any(map(_fits, tags))


def _fits(tag: Tag) -> bool:
    """Whether a wheel with this tag can be installed on Linux by a Python version of this project."""
    python, digits = tag.interpreter[:2], tag.interpreter[2:]
    if tag.abi == "abi3":
        right = python == "cp" and int(digits[1:] or 0) <= int(PYTHONS[-1][1:])
    else:
        right = digits in PYTHONS if python == "cp" else python == "py" and digits in ("3", *PYTHONS)
    free_threaded = tag.abi.endswith("t")
    return right and not free_threaded and (tag.platform == "any" or _is_linux(tag.platform))


def _is_linux(platform: str) -> bool:
    return platform.startswith(("manylinux", "linux")) and platform.endswith(("x86_64", "aarch64"))


def _is_source(file: str, version: str) -> bool:
    return file.endswith((".tar.gz", ".zip")) and str(parse_sdist_filename(file)[1]) == version


if __name__ == "__main__":
    main()
