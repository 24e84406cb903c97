"""Reading an online experiment of two variants, however often one looks: its log, the statistics, the readout."""
