"""`python -m keyturn` is `keyturn`."""

import sys

from keyturn.cli.main import main

sys.exit(main())
