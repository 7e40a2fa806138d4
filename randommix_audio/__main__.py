"""`python -m randommix_audio` is `randommix-audio`."""

import sys

from randommix_audio.cli import main

if __name__ == "__main__":
    sys.exit(main())
