"""A subject that learns connect four by playing, small enough to watch it improve in minutes.

`subject.py` never imports Keyturn: inside the sandbox it is one file and its weights. Importing this room pins the
arithmetic libraries to one thread before anything here loads numpy: the same seed then gives the same bytes.
"""

from __future__ import annotations

import os

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
