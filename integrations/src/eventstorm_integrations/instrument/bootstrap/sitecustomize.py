"""What an interpreter under ``eventstorm-instrument`` imports as it starts, whatever its version and environment.

It must never keep one from starting, nor be seen by the program: it takes its folder out of ``sys.path`` again, and
makes way for the `sitecustomize` that is there without it. The folder holds nothing else, since it is on everybody's
path.
"""

import os
import sys

# No annotations: interpreters of any age shall be able to read this.


def _activate():  # type: ignore[no-untyped-def]
    try:
        from eventstorm_integrations.instrument.hooks import activate
    except Exception:
        return  # an environment without Eventstorm, or a Python that is too old for it
    try:
        activate()
    except Exception:
        sys.stderr.write("eventstorm-instrument: not instrumented: %s\n" % (sys.exc_info()[1],))  # noqa: UP031


def _leave():  # type: ignore[no-untyped-def]
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    sys.path_importer_cache.pop(here, None)


_activate()  # type: ignore[no-untyped-call]
_leave()  # type: ignore[no-untyped-call]
# The one that is there without us; and if there is none, the error that says so, with which `site` reckons.
del sys.modules["sitecustomize"]
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
