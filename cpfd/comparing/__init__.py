"""Two students on the same test clips: how they compare, and where they disagree."""
