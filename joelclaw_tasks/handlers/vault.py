"""The content folder: which files it holds, and which path may be read."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from joelclaw_tasks.errors import PermanentFailure

MAX_BYTES = 5_000_000
MARKDOWN = frozenset({".md", ".markdown", ".mdx"})
_MAX_FILES = 200_000
_PASSED_OVER = frozenset({"node_modules", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Vault:
    """A folder of Markdown and what it links to.

    `files` are all paths below the root, relative and sorted; `named` are the same by their last
    part as links compare it, with the suffix and, for Markdown, without.
    """

    root: Path
    files: tuple[PurePosixPath, ...]
    named: Mapping[str, tuple[PurePosixPath, ...]]

    @classmethod
    def scan(cls, root: Path) -> Vault:
        """List the folder. Hidden folders are passed over, links to folders not followed."""
        files = tuple(sorted(_walk(root)))
        named: dict[str, list[PurePosixPath]] = {}
        for path in files:
            for name in {path.name, linkable(path).name}:
                named.setdefault(same_name(name), []).append(path)
        return cls(root, files, {name: tuple(paths) for name, paths in named.items()})

    def folder(self, folder: PurePosixPath) -> list[PurePosixPath]:
        """The files directly in one folder."""
        return [path for path in self.files if path.parent == folder]

    def read(self, path: PurePosixPath) -> str | None:
        """The text of a file; None when it has gone or is larger than the cap."""
        try:
            body = read_capped(self.root / path)
        except FileNotFoundError:
            return None
        return None if body is None else body.decode("utf-8", "replace")


def content_root(data_dir: Path) -> Path:
    """The content folder, its links resolved: `content` below the data directory, or what it links to."""
    root = data_dir / "content"
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def locate(root: Path, path: str) -> PurePosixPath:
    """The path relative to the root, links resolved, whether or not the file exists.

    Raises PermanentFailure when it leads out of the root, or cannot be a path.
    """
    try:
        resolved = (root / Path(path)).resolve()
        # Older Pythons resolve a loop without a word; asking for its status does not.
        resolved.stat()
    except FileNotFoundError:
        pass
    except (ValueError, RuntimeError):
        raise PermanentFailure("data.path cannot be a path, or is a loop of links") from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL):
            raise
        raise PermanentFailure(f"data.path cannot be read: {os.strerror(error.errno)}") from None
    if resolved == root or not resolved.is_relative_to(root):
        raise PermanentFailure(
            "data.path leads out of the content folder",
            fix="Put the file, or a link to its folder, in content/.",
        )
    return PurePosixPath(resolved.relative_to(root).as_posix())


def locate_in(roots: tuple[Path, ...], path: str) -> tuple[Path, PurePosixPath]:
    """The first root that holds the path, and the path relative to it; relative paths are those of the first.

    Raises PermanentFailure as `locate` does.
    """
    if Path(path).is_absolute():
        for root in roots[1:]:
            if Path(path).is_relative_to(root):
                return root, locate(root, path)
    return roots[0], locate(roots[0], path)


def read_capped(path: Path) -> bytes | None:
    """The bytes of a regular file, None when there are more than 5 MB.

    Raises FileNotFoundError, and PermanentFailure when it is a folder, a pipe or a device.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would hang the worker.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PermanentFailure("data.path is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            body = stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    return None if len(body) > MAX_BYTES else body


def linkable(path: PurePosixPath) -> PurePosixPath:
    """The path as links write it: Markdown without its suffix, others in full."""
    return path.with_suffix("") if path.suffix.lower() in MARKDOWN else path


def same_name(name: str) -> str:
    """A name as links compare it: any case, and one form for accents (file systems differ)."""
    return unicodedata.normalize("NFC", name).casefold()


def _walk_failed(error: OSError) -> None:
    # Half a listing would make good links look broken, so anything else is worth a retry.
    if not isinstance(error, FileNotFoundError | PermissionError):
        raise error


def _walk(root: Path) -> Iterator[PurePosixPath]:
    count = 0
    for folder, folders, names in os.walk(root, onerror=_walk_failed):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _PASSED_OVER]
        relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for name in names:
            if name.startswith("."):
                continue
            count += 1
            if count > _MAX_FILES:
                raise PermanentFailure(f"the content folder holds more than {_MAX_FILES:,} files")
            yield relative / name
