"""Where the contract lies: its source, and what was compiled of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "generated"
DESCRIPTORS = GENERATED / "inglenook.binpb"
"""The descriptor set, with all imports and comments."""
REFERENCE = GENERATED / "reference"
"""The API's reference: `openapi.json`, and a page to read it by, `index.html` with `style.css`."""
