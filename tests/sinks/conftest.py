"""What the tests of sinks share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("eventstorm_sinks.stores.conformance")
