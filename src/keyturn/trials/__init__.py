"""Trials: graders, sealed examinations, drift, and readers of other tools' results.

It never decides what a result allows, and it never tells a subject its scores.
"""
