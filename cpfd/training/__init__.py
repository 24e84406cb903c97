"""Training: batches from the feature store, and one fit for teacher and students alike."""
