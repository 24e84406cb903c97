"""What all pages and tables share: numbers, names, captions, escaping, and the environment of templates."""
