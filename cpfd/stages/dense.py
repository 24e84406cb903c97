"""Stage `dense`: the privileged features, scaled for the teacher. No student stage depends on its output."""

import numpy as np

from cpfd.features.dense import scale_dense
from cpfd.files import read_table, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.paths import DENSE, VALIDATED
from cpfd.stages import run


def main() -> None:
    """Read data/validated; write data/features/dense: values.npy float32[N, 2M] and video_id.parquet, in that order."""
    params = load_params("dense")
    labels = read_table(VALIDATED / "labels.parquet")[["video_id", "split"]]
    dense = labels.merge(read_table(VALIDATED / "dense.parquet"), on="video_id", how="left", validate="1:1")
    train = (dense["split"] == "train").to_numpy()
    scaled = scale_dense(dense.drop(columns=["video_id", "split"]), train, params.dense.scaler)
    with written_aside(DENSE) as aside:
        aside.mkdir()
        np.save(aside / "values.npy", scaled)
        write_table(aside / "video_id.parquet", dense[["video_id"]])


if __name__ == "__main__":
    run(main)
