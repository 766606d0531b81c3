"""Every file format keeps every character of a result."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_analytics.errors import FormatError, MissingExtra
from federated_analytics.report import formats
from federated_analytics.report.formats import FORMATS, from_json, to_csv, to_json
from federated_analytics.report.result import COLUMNS, Result, Row, pair, unpair

TEXTS = st.one_of(
    st.sampled_from(
        ["NA", "", "<5", "-", "overall", 'a "b", c', "two\nlines", "x\r\ny", " s ", "é"]
    ),
    st.text(max_size=12).filter(lambda text: text != "NaN"),
)
NAMES = TEXTS.filter(lambda text: text != "settings")
ROWS = st.builds(
    Row,
    result_id=st.integers(1, 9),
    variable_name=NAMES,
    variable_level=st.none() | TEXTS,
    **{
        name: TEXTS
        for name in COLUMNS
        if name not in ("result_id", "variable_name", "variable_level")
    },
)
SETTINGS = st.dictionaries(
    st.integers(1, 9),
    st.dictionaries(TEXTS.filter(lambda t: t not in ("study_toml", "result_type")), TEXTS).map(
        lambda more: {"result_type": "summary", **more}
    ),
    max_size=3,
)
RESULTS = st.builds(
    Result,
    rows=st.lists(ROWS, max_size=6).map(tuple),
    settings=SETTINGS,
    study_toml=TEXTS,
)

ROW = Row(
    result_id=1,
    cdm_name="pooled",
    group_name="population",
    group_level="everyone",
    strata_name="overall",
    strata_level="overall",
    variable_name="bmi",
    variable_level=None,
    estimate_name="mean",
    estimate_type="numeric",
    estimate_value="25.5",
    additional_name="overall",
    additional_level="overall",
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=60, deadline=None)
@given(result=RESULTS)
def test_round_trip(suffix: str, result: Result, tmp_path_factory: pytest.TempPathFactory) -> None:
    write, read = FORMATS[suffix]
    path = tmp_path_factory.mktemp("round_trip") / f"result{suffix}"
    write(result, path)
    assert read(path) == result


def test_csv_has_the_columns_and_one_row_for_each_setting() -> None:
    result = Result((ROW,), {1: {"result_type": "summary", "study": "S"}}, "[study]\n")
    lines = list(csv.reader(io.StringIO(to_csv(result))))
    assert lines[0] == list(COLUMNS)
    assert [line[8] for line in lines[1:]] == ["result_type", "study", "study_toml", "mean"]
    for line in lines[1:4]:
        assert line[1] == "NA"
        assert line[6] == "settings"
        assert line[7] == "NA"
        assert line[2:6] == ["overall"] * 4
        assert line[11:] == ["overall"] * 2
    assert lines[4][1] == "pooled"
    assert lines[4][7] == "NA"


def test_csv_tells_na_from_a_text_that_reads_na() -> None:
    rows = (ROW, replace(ROW, variable_level="NA"), replace(ROW, estimate_value="NA"))
    text = to_csv(Result(rows, {}))
    assert ",bmi,NA," in text
    assert ',bmi,"NA",' in text
    assert text.count("numeric,NaN,") == 1


def test_csv_columns_may_come_in_another_order(tmp_path: Path) -> None:
    names = list(reversed(COLUMNS))
    values = [str(getattr(ROW, name)) if getattr(ROW, name) is not None else "NA" for name in names]
    path = tmp_path / "other.csv"
    path.write_text("\ufeff" + ",".join(names) + "\r\n" + ",".join(values))
    assert Result.load(path).rows == (ROW,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("result_id,cdm_name\n1,x\n", "columns"),
        (",".join(COLUMNS) + "\n1,2\n", "Line 2 has 2 fields"),
        (",".join(COLUMNS) + '\n1,"open', "not closed"),
        (",".join(COLUMNS) + "\nx" + ",a" * 12 + "\n", "result_id"),
        ("", "columns"),
    ],
)
def test_broken_csv_is_explained(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    path.write_text(text)
    with pytest.raises(FormatError, match=says):
        Result.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format":"summarised_result","version":9}'])
def test_broken_json_is_explained(text: str) -> None:
    with pytest.raises(FormatError, match="not the JSON"):
        from_json(text)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for name in ("result.xlsx", "missing.csv", "broken.parquet"):
        with pytest.raises(FormatError):
            Result.load(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    FORMATS[".json"][0](Result((ROW,)), path)
    before = path.read_bytes()

    def full_disk(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        FORMATS[".json"][0](Result(()), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"analytics\[parquet\]"):
        Result((ROW,)).save(tmp_path, ["parquet"])
    assert [path.name for path in Result(()).save(tmp_path, None)] == [
        "result.csv",
        "result.json",
        "report.html",
    ]


def test_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="parquet"):
        Result((ROW,)).save(tmp_path / "new", ["csv", "parqet"])
    assert not (tmp_path / "new").exists()


def test_pair() -> None:
    assert pair([], []) == ("overall", "overall")
    assert pair(["sex", "age_group"], ["Female", "20 to 39"]) == (
        "sex &&& age_group",
        "Female &&& 20 to 39",
    )
    assert unpair("sex &&& age_group", "F &&& 20 to 39") == (
        ("sex", "F"),
        ("age_group", "20 to 39"),
    )
    assert unpair("overall", "overall") == ()
    with pytest.raises(ValueError, match="2 levels"):
        pair(["sex"], ["F", "M"])


def test_select_and_pandas() -> None:
    other = replace(ROW, result_id=2, cdm_name="north", variable_name="age")
    result = Result((ROW, other), {1: {"result_type": "summary"}, 2: {"result_type": "counts"}})
    assert result.select(result_type="counts").rows == (other,)
    assert result.select(result_type="counts").settings == {2: {"result_type": "counts"}}
    assert result.select(cdm_name="pooled", variable_name="bmi").rows == (ROW,)
    frame = result.to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2
    assert frame["result_id"].tolist() == [1, 2]
    assert len(result.to_pandas(settings=True)) == 4


def test_json_is_strict_text() -> None:
    assert from_json(to_json(Result((ROW,)))) == Result((ROW,))
