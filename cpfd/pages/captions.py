"""What the plots of the evaluation and of the confidence stage show, in the order in which they are shown."""

CAPTIONS = {
    "f1": "Macro-F1 of each model.",
    "confusion": "Test clips by actual and predicted class, for the shipped student; shaded by share of a row.",
    "decisions": "Test clips of a class that the shipped student found and missed, and others that it gave the class.",
    "reliability": "How often the shipped student is right, by its confidence. Below the dashed line it is too sure.",
    "curves": "Macro-F1 on the validation split while training: a line for each seed of a method.",
    "loss": "Loss of the shipped student while training. Validation loss that rises says that it learns by heart.",
}
"""By name of a plot in reports/plots."""
EVIDENCE = {
    "histogram": "How sure teachers are of training clips that they have not seen, and whether the label agrees.",
    "reliability": "How often they agree with the label, by their confidence, before and after calibration.",
}
"""By name of a plot in reports/confidence."""
