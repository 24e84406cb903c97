"""How teacher and students compare: intervals, plots and the report page, from the scores of cpfd.metrics."""
