"""What the plots of the evaluation and of the confidence stage show, in the order in which they are shown."""

CAPTIONS = {
    "f1": "Macro-F1 of the teacher and of each method's students.",
    "confusion": "Test clips by actual and predicted class, for the shipped student; shaded by share of a row.",
    "reliability": "How often the shipped student is right, by its confidence. Below the dashed line it is too sure.",
}
"""By name of a plot in reports/plots."""
EVIDENCE = {
    "histogram": "How sure teachers are of training clips that they have not seen, and whether the label agrees.",
    "reliability": "How often they agree with the label, by their confidence, before and after calibration.",
}
"""By name of a plot in reports/confidence."""
