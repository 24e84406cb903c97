"""Stage `extract`: the content of every validated clip becomes features."""

from pathlib import Path

from cpfd.datasets.limits import Limits
from cpfd.errors import CpfdError
from cpfd.features.encoding import ClipEncoder, ValidatedClips
from cpfd.features.extract import extract_features
from cpfd.files import SCRATCH, fingerprint, read_json, read_table
from cpfd.pages.formatting import share
from cpfd.params.load import load_params
from cpfd.params.schema import Backbone
from cpfd.paths import BACKBONES, CODE, CONTENT, RAW, VALIDATED
from cpfd.stages import run


def main() -> None:
    """Read data/validated and the clips it names; write data/features/content."""
    params = load_params("extract")
    dataset = read_json(VALIDATED / "dataset.json")
    manifest = read_table(VALIDATED / "manifest.parquet")
    clips = ValidatedClips(dataset, manifest, RAW / dataset["name"] / "videos")
    limits = Limits.of(params.validation)
    given = len(manifest) + dataset["quarantined"]
    _refuse_unwatched(params.backbone)
    # The manifest holds every clip's content hash, so this knows when anything has changed since a killed run.
    state = fingerprint(
        [VALIDATED / "manifest.parquet", CODE / "extract.txt", *sorted(BACKBONES.glob("*"))],
        [group.model_dump() for group in (params.video, params.text, params.backbone, params.extract)],
        limits,
    )
    encoder = ClipEncoder(clips, params.video, params.text, params.backbone, limits)
    if cut := encoder.tell_cut():
        print(f"warning: {cut}", flush=True)
    extract_features(
        clips,
        encoder,
        params.extract,
        CONTENT,
        SCRATCH / f"extract-{state}",
        max_quarantined=int(params.validation.max_quarantine_share * given) - dataset["quarantined"],
    )
    if lost := len(read_table(CONTENT / "quarantine.parquet")):
        most = f"at most {share(params.validation.max_quarantine_share)}, validation.max_quarantine_share"
        print(
            f"quarantine: {lost} clips more cannot be decoded, {share((lost + dataset['quarantined']) / given)} with"
            f" those of stage validate ({most})"
        )


def _refuse_unwatched(backbone: Backbone) -> None:
    for key, name in (("vision", backbone.vision), ("text", backbone.text)):
        if Path(name).is_dir() and BACKBONES not in Path(name).parents:
            raise CpfdError(
                f"backbone.{key}: {name} is a folder outside of {BACKBONES}/, where nothing would notice that it is"
                f" trained anew: move it there, and name it {BACKBONES / Path(name).name}"
            )


if __name__ == "__main__":
    run(main)
