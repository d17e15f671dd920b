"""The command line, which misses a silent process sooner: python noticed_soon.py SECONDS ARGUMENTS"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from evospike.cli.main import main
    from evospike.training import heartbeat

    heartbeat.SILENT_SECONDS = float(sys.argv[1])
    heartbeat.BEAT_SECONDS = 0.5
    sys.exit(main(sys.argv[2:]))
