"""Suites, graders, red-team scenarios and drift; readers of other tools' results.

Never shows a candidate its answers or its scores, and never reads results in another order than the plan's.
"""
