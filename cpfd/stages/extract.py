"""Stage `extract`: the content of every validated clip becomes features."""

from functools import partial
from pathlib import Path

from cpfd.errors import CpfdError
from cpfd.features.encoding import ClipEncoder
from cpfd.features.extract import extract_features
from cpfd.features.known import recorded_clips
from cpfd.files import SCRATCH, fingerprint, read_json, read_table, remove
from cpfd.pages.formatting import share
from cpfd.params.load import load_params
from cpfd.params.schema import Backbone
from cpfd.paths import BACKBONES, CODE, CONTENT, RAW, VALIDATED
from cpfd.project.revision import bring, open_revision
from cpfd.stages import run

_CLIPS = SCRATCH / "clips"


def main() -> None:
    """Read what data/validated says of content, and the clips it names; write data/features/content."""
    params = load_params("extract")
    clips, before = read_table(VALIDATED / "content.parquet"), read_json(VALIDATED / "content.json")
    _refuse_unwatched(params.backbone)
    code = fingerprint([CODE / "extract.txt", *sorted(BACKBONES.glob("*"))])
    encoder = ClipEncoder(clips, params, code)
    if cut := encoder.tell_cut(encoder.texts(clips)):
        print(f"warning: {cut}", flush=True)
    with recorded_clips(encoder.state) as known:
        extract_features(
            clips,
            encoder,
            params.extract,
            known,
            partial(_find, RAW / params.dataset.name),
            CONTENT,
            SCRATCH / f"extract-{encoder.state}",
            max_quarantined=int(params.validation.max_quarantine_share * before["rows"]) - before["quarantined"],
        )
    remove(_CLIPS)
    if lost := len(read_table(CONTENT / "quarantine.parquet")):
        most = f"at most {share(params.validation.max_quarantine_share)}, validation.max_quarantine_share"
        print(
            f"quarantine: {lost} clips more cannot be decoded, {share((lost + before['quarantined']) / before['rows'])}"
            f" with those of stage validate ({most})"
        )


def _find(dataset: Path, paths: list[str]) -> Path:
    """The folder that has these clips: the data set's, or where that is not checked out, one with links to them."""
    if dataset.exists():
        return dataset / "videos"
    remove(_CLIPS)
    bring(open_revision(None), dataset, [f"videos/{path}" for path in paths], _CLIPS)
    return _CLIPS / "videos"


def _refuse_unwatched(backbone: Backbone) -> None:
    for key, name in (("vision", backbone.vision), ("text", backbone.text)):
        if Path(name).is_dir() and BACKBONES not in Path(name).parents:
            raise CpfdError(
                f"backbone.{key}: {name} is a folder outside of {BACKBONES}/, where nothing would notice that it is"
                f" trained anew: move it there, and name it {BACKBONES / Path(name).name}"
            )


if __name__ == "__main__":
    run(main)
