"""Privileged dense features, scaled for the teacher."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, RobustScaler, StandardScaler

LIMIT = 10.0
"""Scaled values are clipped to this: one viral clip must not drown a batch."""


def scale_dense(values: pd.DataFrame, train: NDArray[np.bool_], scaler: str) -> NDArray[np.float32]:
    """Scale dense columns and append missing-value indicators: float32[N, 2 * M].

    `values`[N, M] holds NaN where a value is missing; the first M columns of the result are 0 there and the last M are
    1. The scaler is fitted on the rows of `train`[N] alone: `signed_log` maps x to sign(x) log(1 + |x|) and
    standardises, `robust` uses median and interquartile range, `quantile` maps ranks to a normal distribution. A column
    without any value among those rows counts as missing everywhere.
    """
    raw = values.to_numpy(np.float64)
    if not raw.shape[1]:  # a data set without dense features: the teacher then knows no more than the student
        return raw.astype(np.float32)
    unknown = np.isnan(raw[train]).all(axis=0)
    missing = np.isnan(raw) | unknown
    if scaler == "signed_log":
        fitted = make_pipeline(FunctionTransformer(lambda x: np.sign(x) * np.log1p(np.abs(x))), StandardScaler())
    elif scaler == "robust":
        fitted = RobustScaler()
    else:
        fitted = QuantileTransformer(
            output_distribution="normal", n_quantiles=min(1000, int(train.sum())), subsample=None
        )
    known = np.where(unknown, 0, raw)  # scalers cannot be fitted on nothing
    scaled = fitted.fit(known[train]).transform(known)
    scaled = np.where(missing, 0, np.clip(scaled, -LIMIT, LIMIT))
    return np.concatenate([scaled, missing], axis=1).astype(np.float32)
