"""`python -m evospike` is the command `evospike`; the form in which torchrun starts it."""

import sys

from evospike.cli.main import main

sys.exit(main())
