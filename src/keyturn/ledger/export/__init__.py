"""A whole log in one file, for an auditor.

It never says whether the log is true; `app.auditing` decides it again.
"""
