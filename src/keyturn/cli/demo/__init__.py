"""The demo: one story from the founder to the check by a stranger. It never scripts an outcome."""
