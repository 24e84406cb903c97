"""Stage `student`: X-VLM trained by one method with one seed. It reads no dense feature."""

from cpfd.features.store import FeatureStore
from cpfd.files import SCRATCH, fingerprint, read_table, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.paths import CODE, CONFIDENCE, CONTENT, MODELS, VALIDATED
from cpfd.reports.confidence import NoTeacher
from cpfd.stages import run
from cpfd.training.batches import ClipDataset, no_logits
from cpfd.training.fit import TrainingRun
from cpfd.training.methods import method_targets
from cpfd.training.students import train_student


def main(method: str, seed: str) -> None:
    """Train one student; write models/students/<method>-<seed>: the network, its curves and its logits.

    Reads the content features, data/confidence, and the logits of models/teacher, for distill.soft_targets.
    Without a teacher only `none` is trained; the logits of another method are then an empty table.
    """
    params = load_params("student")
    store = FeatureStore(CONTENT, VALIDATED)
    if method != "none" and not store.has_teacher:
        with written_aside(MODELS / "students" / f"{method}-{seed}") as aside:
            write_table(aside / "logits.parquet", no_logits(store))
        print(f"student {method}: not trained: {NoTeacher().why}")
        return
    evidence, teacher = CONFIDENCE / "confidence.parquet", MODELS / "teacher" / "logits.parquet"
    inputs = [*FeatureStore.files(CONTENT, VALIDATED), evidence, teacher, CODE / "student.txt"]
    state = fingerprint(inputs, params.model_dump(), method, seed)
    targets = method_targets(method, store, read_table(evidence), read_table(teacher), params.distill)
    clips = ClipDataset(store, *targets)
    with written_aside(MODELS / "students" / f"{method}-{seed}") as aside:
        training = TrainingRun(
            seed=int(seed),
            title=f"student {method}, seed {seed}",
            scratch=SCRATCH / f"student-{method}-{seed}-{state}",
            curves=aside / "curves",
        )
        network, logits = train_student(clips, params.model, params.train, training, tau=params.distill.tau)
        network.save_pretrained(aside)
        write_table(aside / "logits.parquet", logits)


if __name__ == "__main__":
    run(main)
