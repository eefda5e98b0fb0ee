"""What is done in sealed runs: one trial, with a seat for every member.

It carries out and reports, and never decides a verdict.
"""

from __future__ import annotations
