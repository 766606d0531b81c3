"""Files of a result: CSV as omopgenerics reads it, JSON, Parquet. All of them round-trip."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from federated_analytics.errors import FormatError, MissingExtra
from federated_analytics.report.result import COLUMNS, OVERALL, Result, Row

Record = tuple[int | str | None, ...]
Writer = Callable[[Result, Path], Path]
Reader = Callable[[Path], Result]

NA = "NA"
UNDEFINED = "NaN"  # what files hold for an estimate "NA": omopgenerics takes no missing value there
SETTINGS = "settings"
STUDY_TOML = "study_toml"
JSON_VERSION = 1

_values = attrgetter(*COLUMNS)
_VALUE = COLUMNS.index("estimate_value")
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^,"\r\n]*))(,|\r\n|\r|\n|\Z)')
_NEEDS_QUOTES = re.compile(r'[",\r\n]|^NA$|^\s|\s$')


def records(result: Result) -> Iterator[Record]:
    """Settings rows, then estimates, as tuples of the 13 columns; None stands for NA."""
    for result_id, name, text in _settings(result):
        pairs = (OVERALL,) * 4
        yield (result_id, None, *pairs, SETTINGS, None, name, "character", text, *(OVERALL,) * 2)
    for row in result.rows:
        values = _values(row)
        value = UNDEFINED if row.estimate_value == NA else row.estimate_value
        yield (*values[:_VALUE], value, *values[_VALUE + 1 :])


def from_records(found: Iterable[Sequence[Any]], where: str) -> Result:
    """The result in tuples of the 13 columns."""
    rows: list[Row] = []
    settings: dict[int, dict[str, str]] = {}
    study_toml = ""
    for position, values in enumerate(found, start=1):
        fields = dict(zip(COLUMNS, values, strict=True))
        fields["result_id"] = _result_id(fields["result_id"], f"{where}, row {position}")
        if fields["variable_name"] != SETTINGS:
            if fields["estimate_value"] == UNDEFINED:
                fields["estimate_value"] = NA
            rows.append(_row(fields))
        elif fields["estimate_name"] == STUDY_TOML:
            study_toml = fields["estimate_value"] or ""
        elif fields["estimate_value"] is not None:
            of_id = settings.setdefault(fields["result_id"], {})
            of_id[str(fields["estimate_name"])] = str(fields["estimate_value"])
    return Result(tuple(rows), settings, study_toml)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text as a whole or not at all."""
    return write_bytes(path, text.encode("utf-8", "replace"))


def to_csv(result: Result) -> str:
    """The CSV text: 13 columns, NA unquoted, a text that reads "NA" quoted."""
    lines = [",".join(COLUMNS), *(",".join(map(_csv, record)) for record in records(result))]
    return "\n".join(lines) + "\n"


def write_csv(result: Result, path: Path) -> Path:
    """Write the CSV that R's omopgenerics::importSummarisedResult reads."""
    return write_text(path, to_csv(result))


def read_csv(path: Path) -> Result:
    """The result in a summarised result's CSV, columns in any order."""
    lines = _split(_text(path), str(path))
    header = [name or "" for name in next(lines, [])]
    _check_columns(header, str(path))
    order = [header.index(name) for name in COLUMNS]
    width = len(header)

    def ordered() -> Iterator[list[str | None]]:
        for number, line in enumerate(lines, start=2):
            if len(line) != width:
                raise FormatError(
                    f"Line {number} has {len(line)} fields, the header {width}.",
                    where=str(path),
                    remedy="Restore the file; a spreadsheet program may have changed it.",
                )
            yield [line[i] for i in order]

    return from_records(ordered(), str(path))


def to_json(result: Result) -> str:
    """The JSON text: rows as a list for each column, settings by result_id."""
    columns = zip(*map(_values, result.rows), strict=True) if result.rows else ((),) * len(COLUMNS)
    return json.dumps(
        {
            "format": "summarised_result",
            "version": JSON_VERSION,
            "settings": {str(i): dict(values) for i, values in result.settings.items()},
            "rows": dict(zip(COLUMNS, map(list, columns), strict=True)),
            "study_toml": result.study_toml,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_json(text: str, where: str = "json") -> Result:
    """The result in the text of `to_json`."""
    try:
        data = json.loads(text)
        if data["format"] != "summarised_result" or data["version"] != JSON_VERSION:
            raise ValueError("another format or version")
        columns = data["rows"]
        rows = [
            _row(dict(zip(COLUMNS, values, strict=True)))
            for values in zip(*(columns[name] for name in COLUMNS), strict=True)
        ]
        settings = {int(i): _texts(values) for i, values in data["settings"].items()}
        return Result(tuple(rows), settings, str(data["study_toml"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            "This is not the JSON of a summarised result.",
            where=where,
            remedy="Give a result.json that this version of federated_analytics wrote.",
        ) from error


def write_json(result: Result, path: Path) -> Path:
    return write_text(path, to_json(result) + "\n")


def read_json(path: Path) -> Result:
    return from_json(_text(path), str(path))


def write_parquet(result: Result, path: Path) -> Path:
    """Write the CSV's rows, with null for NA and result_id as int32."""
    _need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(zip(*records(result), strict=True)) or [()] * len(COLUMNS)
    types = [pa.int32(), *[pa.string()] * (len(COLUMNS) - 1)]
    arrays = [pa.array(values, type=kind) for values, kind in zip(columns, types, strict=True)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=list(COLUMNS)), sink, compression="zstd")
    return write_bytes(path, sink.getvalue().to_pybytes())


def read_parquet(path: Path) -> Result:
    _need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path) from error
    _check_columns(table.column_names, str(path))
    columns = [table.column(name).to_pylist() for name in COLUMNS]
    return from_records(zip(*columns, strict=True), str(path))


FORMATS: Mapping[str, tuple[Writer, Reader]] = {
    ".csv": (write_csv, read_csv),
    ".json": (write_json, read_json),
    ".parquet": (write_parquet, read_parquet),
}


def installed(suffix: str) -> bool:
    """Whether the packages that a format needs are there."""
    return suffix != ".parquet" or find_spec("pyarrow") is not None


def _settings(result: Result) -> Iterator[tuple[int, str, str]]:
    for result_id, values in result.settings.items():
        for name, text in values.items():
            yield result_id, name, text
    if result.study_toml:
        yield min(result.settings, default=1), STUDY_TOML, result.study_toml


def _row(fields: Mapping[str, Any]) -> Row:
    level = fields["variable_level"]
    texts = {
        name: NA if fields[name] is None else str(fields[name])
        for name in COLUMNS[1:]
        if name != "variable_level"
    }
    return Row(
        result_id=int(fields["result_id"]),
        variable_level=None if level is None else str(level),
        **texts,
    )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in values.items()}


def _result_id(text: Any, where: str) -> int:
    try:
        return int(text)
    except (TypeError, ValueError) as error:
        raise FormatError(
            f"result_id is {str(text)[:40]!r}, not a whole number.",
            where=where,
            remedy="Restore the file from the folder of results.",
        ) from error


@lru_cache(maxsize=1 << 16)
def _csv(value: int | str | None) -> str:
    if value is None:
        return NA
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _split(text: str, where: str) -> Iterator[list[str | None]]:
    """The lines of a CSV text; None for an unquoted NA, which csv.reader cannot tell apart."""
    line: list[str | None] = []
    position, end = 0, len(text)
    while position < end or line:
        match = _FIELD.match(text, position)
        if match is None:
            raise FormatError(
                f"A quotation mark at character {position} is not closed.",
                where=where,
                remedy="Restore the file; it may be cut off.",
            )
        quoted, plain, stop = match.groups()
        line.append(plain if plain != NA else None) if quoted is None else line.append(
            quoted.replace('""', '"')
        )
        position = match.end()
        if stop != ",":
            if line != [""]:
                yield line
            line = []


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> FormatError:
    return FormatError(
        "The file cannot be read.",
        where=str(path),
        remedy="Give the path of a result.csv, result.json or result.parquet.",
    )


def _check_columns(names: Sequence[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise FormatError(
            f"The columns {', '.join(missing)} are missing.",
            where=where,
            remedy=f"A summarised result has: {', '.join(COLUMNS)}.",
        )


def _need_pyarrow() -> None:
    if not installed(".parquet"):
        raise MissingExtra("pyarrow", "parquet", "A Parquet file")
