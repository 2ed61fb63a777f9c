#!/usr/bin/env python3
"""All tests of the simulator: python3 test/sim/test_sim.py [-v] [name ...]

Counts and order are asserted; times only as lower bounds, where waiting is
what is tested.  The official SDK's view is in test_botocore.py, which needs
more than the standard library and is run by run-botocore-test.
"""

from __future__ import annotations

import sys
import unittest

MODULES = ["test_api", "test_signature", "test_quota", "test_faults", "test_server"]

if __name__ == "__main__":
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    unittest.main(module=None, argv=sys.argv + ([] if names else MODULES))
