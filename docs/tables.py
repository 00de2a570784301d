"""Write the generated tables of the documents anew: `python -m docs.tables`."""

from __future__ import annotations

import re
from pathlib import Path

from joelclaw_tasks.broker.install import REQUIRED
from joelclaw_tasks.core import keys

DOCS = Path(__file__).parent


def keys_table() -> str:
    """Every Redis key with the comment that it has in core/keys.py."""
    source = Path(keys.__file__).read_text()
    rows = [
        (f"`{template}`", re.search(rf'"{name}": ".*?",  # (.*)', source)[1])
        for name, template in keys.KEYS.items()
    ]
    return _table(("key", "what it holds"), rows)


def settings_table() -> str:
    """Every Celery setting that a worker insists on, with the reason that broker/install.py gives."""
    rows = [(f"`{name}`", f"`{value!r}`", why) for name, (value, why) in REQUIRED.items()]
    return _table(("setting", "value", "why"), rows)


#: (page, marker) -> what stands between the markers.
TABLES = {
    ("internals.md", "keys"): keys_table,
    ("adopting.md", "settings"): settings_table,
}


def written(page: str, marker: str) -> str:
    """What a page has between the markers now."""
    return _between(marker).search((DOCS / page).read_text())[2]


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|").replace("<", "&lt;") for cell in row) + " |"
        for row in lines
    )


def _between(marker: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {marker} -->\n)(.*?)(\n<!-- /{marker} -->)", re.DOTALL)


def main() -> None:
    for (page, marker), table in TABLES.items():
        path, text = DOCS / page, table()
        path.write_text(_between(marker).sub(lambda m, t=text: m[1] + t + m[3], path.read_text()))


if __name__ == "__main__":
    main()
