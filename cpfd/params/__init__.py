"""params.yaml: what a knob is (schema), what a stage may read (load), and what each key means (reference)."""
