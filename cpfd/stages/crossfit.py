"""Stage `crossfit`: K networks, each judging the fold of the training split that it has not seen."""

from cpfd.features.store import FeatureStore
from cpfd.files import SCRATCH, fingerprint, write_table
from cpfd.params.load import load_params
from cpfd.paths import CODE, CONTENT, CROSSFIT, DENSE, VALIDATED
from cpfd.reports.confidence import NoTeacher
from cpfd.stages import run
from cpfd.training.batches import Features, load_dense, no_logits
from cpfd.training.crossfit import cross_fit


def main(role: str) -> None:
    """Cross-fit the `role`: "teacher", with dense features, or "student", on content alone.

    Reads the feature folders; writes data/crossfit/<role>.parquet, the table of `cross_fit`. It is empty where the data
    set has no dense columns: both roles are about what there is to learn from a teacher.
    """
    params = load_params("crossfit")
    store = FeatureStore(CONTENT, VALIDATED)
    if not store.has_teacher:
        write_table(CROSSFIT / f"{role}.parquet", no_logits(store))
        print(f"crossfit: nothing to judge: {NoTeacher().why}")
        return
    features = Features(store, load_dense(DENSE, store) if role == "teacher" else None)
    inputs = [*FeatureStore.files(CONTENT, VALIDATED), CODE / "crossfit.txt", *([DENSE] if role == "teacher" else [])]
    scratch = SCRATCH / f"crossfit-{role}-{fingerprint(inputs, params.model_dump())}"
    table = cross_fit(features, params.model, params.train, params.crossfit, scratch)
    write_table(CROSSFIT / f"{role}.parquet", table)


if __name__ == "__main__":
    run(main)
