"""Reading an online experiment of two variants, however often one looks."""
