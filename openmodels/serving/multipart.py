"""Parses a body of multipart/form-data, the form in which clients upload files (RFC 7578).

Every count and length is limited, and nothing is written to disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from openmodels.serving.model_store import ApiError

MAX_PARTS = 32
MAX_HEAD = 4096  # bytes of a part before its content
MAX_VALUE = 65_536  # bytes of a field that is no file
MAX_BOUNDARY = 70  # characters (RFC 2046, section 5.1.1)


@dataclass
class Form:
    """The parts of a form: texts and files by name; of equal names, the last one counts."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def parse(content: bytes, content_type: str) -> Form:
    """Return the parts of a body. content_type: the request's header, with the boundary.

    Raises ApiError(400) for another type, a damaged body, too many parts, or a text that is too
    long or not UTF-8.
    """
    form = Form()
    for head, value in _parts(content, _boundary(content_type)):
        disposition = Message()
        disposition["content-disposition"] = _disposition(head)
        name = disposition.get_param("name", header="content-disposition")
        if disposition.get_content_disposition() != "form-data" or not isinstance(name, str):
            raise ApiError(400, "a part of the form has no name")
        if disposition.get_filename() is not None or name == "file":
            form.files[name] = value
            continue
        if len(value) > MAX_VALUE:
            raise ApiError(400, f'"{name[:80]}" has more than {MAX_VALUE:,} bytes')
        try:
            form.texts[name] = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ApiError(400, f'"{name[:80]}" is not UTF-8') from error
    return form


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise ApiError(400, "the body must be multipart/form-data with a boundary")
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise ApiError(400, f"the boundary must have 1 to {MAX_BOUNDARY} ASCII characters")
    return boundary.encode()


def _parts(content: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (head, content) of each part of a body; raises ApiError(400)."""
    mark = b"\r\n--" + boundary
    pieces = (b"\r\n" + content).split(mark, MAX_PARTS + 2)
    if len(pieces) > MAX_PARTS + 2:
        raise ApiError(400, f"the form has more than {MAX_PARTS} parts")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ApiError(400, "the form is truncated: its closing boundary is missing")
    for piece in pieces[1:-1]:
        head, separator, value = piece.lstrip(b" \t").partition(b"\r\n\r\n")
        if not separator or len(head) > MAX_HEAD:
            raise ApiError(400, f"a part of the form has no head, or more than {MAX_HEAD} bytes")
        yield head, value


def _disposition(head: bytes) -> str:
    """Return the value of a part's Content-Disposition, "" without it."""
    for line in head.decode("utf-8", errors="replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            return value.replace("\r", " ").replace("\n", " ").strip()
    return ""
