"""Writes the contract as SDL: `python -m schema.print` after every change, `--check` says whether it drifted."""

import sys
from pathlib import Path

PATH = Path(__file__).with_name("schema.graphql")


def sdl() -> str:
    """The printed contract with a final line break."""
    from schema.root import schema

    return schema.as_str().rstrip() + "\n"


def main() -> int:
    """Write the file, or compare it; 1 when it differs."""
    text = sdl()
    if "--check" in sys.argv[1:]:
        if PATH.exists() and PATH.read_text("utf-8") == text:
            return 0
        sys.stderr.write("schema/schema.graphql is out of date: python -m schema.print\n")
        return 1
    PATH.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
