"""Set up the course and open it: `python start.py`. Needs Python 3.11 or newer, nothing else.

This file uses only syntax that Python 2.7 parses, so that an old Python ends in a message and not
in a SyntaxError. The work is in tools/setup_course.py.
"""

import os
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
MIN_PYTHON = (3, 11)
TOO_OLD = """This is Python {version}; the course needs Python 3.11 or newer.
Install one from https://www.python.org/downloads/ and run start.py with it, for example:
  on Windows         py -3.12 start.py
  on macOS, Linux    python3.12 start.py
"""


def ignore_pythonpath():
    """Remove the folders of PYTHONPATH: a module there could replace one that set-up needs."""
    for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        while folder and os.path.abspath(folder) in sys.path:
            sys.path.remove(os.path.abspath(folder))


def main():
    """Return the exit code of the command line, or 1 for a Python that is too old."""
    if sys.version_info[:2] < MIN_PYTHON:
        version = ".".join(str(part) for part in sys.version_info[:3])
        sys.stderr.write(TOO_OLD.format(version=version))
        return 1
    ignore_pythonpath()
    sys.path[:0] = [os.path.join(ROOT, "tools"), ROOT]
    import setup_course

    setup_course.stop_on_sigterm()
    return setup_course.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
