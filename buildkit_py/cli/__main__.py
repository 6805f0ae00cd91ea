"""``python -m buildkit_py.cli``"""

import sys

from buildkit_py.cli import main

sys.exit(main())
