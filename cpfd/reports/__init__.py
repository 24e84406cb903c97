"""The reports that other modules and scripts read: what is in each, and where it lies.

One module a report, so that a stage depends on the reports that it reads and writes, and on no other:

    metrics      reports/metrics.json           stage evaluate
    champion     reports/champion.json          stage champion
    gate         reports/gate.json              stage gate
    validation   reports/validation.json        stage validate
    confidence   data/confidence/summary.json   stage confidence
"""
