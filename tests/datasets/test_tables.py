"""Tables that come from outside are read as they are written, or refused with a sentence that says what to do."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpfd.datasets.contract import read_dataset
from cpfd.datasets.tables import numbers, read_batches, read_columns, read_dense, read_text
from cpfd.errors import CpfdError

COMBINING = unicodedata.normalize("NFD", "café")


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CpfdError) as error:
        read_columns(path)
    return str(error.value).removeprefix(f"{path}: ")


def write_parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_text_is_text_and_only_an_empty_cell_is_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(
        b"\xef\xbb\xbfvideo_id,title,label,creator_id\r\n"
        b"007,1e5,None,NA\r\n1e5,12345678901234567890,n/a,null\r\n"
        b'True," two\nlines ",null,\r\n\r\nNaN,"a ""quote""",,""\r\n'
    )
    (tmp_path / "dense.csv").write_text("video_id,views\n007,1e5\nNaN,\n")

    dataset = read_dataset(tmp_path)

    assert dataset.manifest.drop(columns="path").to_numpy().tolist() == [
        ["007", "1e5", "None", "NA"],
        ["1e5", "12345678901234567890", "n/a", "null"],
        ["True", " two\nlines ", "null", ""],
        ["NaN", 'a "quote"', "", ""],
    ]
    assert dataset.dense["video_id"].tolist() == ["007", "NaN"]
    assert dataset.dense["views"].fillna(-1).tolist() == [100_000, -1]


def test_integer_ids_stay_exact_beside_a_missing_one(tmp_path: Path) -> None:
    ids = pa.array([7301234567890123457, None, 7301234567890123458])
    write_parquet(tmp_path / "manifest.parquet", video_id=ids, label=pa.array([1, 2, None]))
    write_parquet(tmp_path / "dense.parquet", video_id=ids, views=pa.array([3, None, 4]))

    dataset = read_dataset(tmp_path)

    exact = ["7301234567890123457", "", "7301234567890123458"]
    assert dataset.manifest["video_id"].tolist() == dataset.dense["video_id"].tolist() == exact
    assert dataset.manifest["label"].tolist() == ["1", "2", ""]
    assert dataset.dense["views"].fillna(-1).tolist() == [3, -1, 4]


@pytest.mark.parametrize("table", ["manifest", "dense"])
def test_ids_that_are_floats_already_are_refused(tmp_path: Path, table: str) -> None:
    sound, floats = pa.array(["1", "2"]), pa.array([7301234567890123457.0, None])
    for name in ("manifest", "dense"):
        write_parquet(
            tmp_path / f"{name}.parquet", video_id=floats if name == table else sound, label=sound, views=sound
        )
    if table == "dense":
        write_parquet(tmp_path / "dense.parquet", video_id=floats)

    with pytest.raises(CpfdError, match=rf"{table}.parquet: column video_id holds floating-point numbers.* as text"):
        read_dataset(tmp_path)


def test_what_parquet_can_hold_becomes_its_text(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "t.parquet",
        large=pa.array([2**64 - 1], pa.uint64()),
        nothing=pa.array([None], pa.float64()),
        none=pa.nulls(1),
        truth=pa.array([True]),
        word=pa.array(["a"]).dictionary_encode(),
        octets=pa.array(["é".encode()]),
        day=pa.array([0], pa.date32()),
    )
    row = read_text(path, ["large", "nothing", "none", "truth", "word", "octets", "day"], ()).loc[0]
    assert row.tolist() == ["18446744073709551615", "", "", "True", "a", "é", "1970-01-01"]

    for name, column in {"list": pa.array([["a"]]), "octets": pa.array([b"\xe9"])}.items():
        with pytest.raises(CpfdError, match=f"t.parquet: column {name} is of type .*, not text"):
            read_text(write_parquet(path, **{name: column}), [name], ())


def test_an_index_of_pandas_is_a_column_only_if_it_has_a_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"video_id": ["b", "a"], "views": [1, 2]})
    table.iloc[::-1].to_parquet(tmp_path / "unnamed.parquet")
    table.set_index("video_id").to_parquet(tmp_path / "named.parquet")

    assert list(read_dense(tmp_path / "unnamed.parquet")) == ["video_id", "views"]
    assert read_dense(tmp_path / "named.parquet")["video_id"].tolist() == ["b", "a"]


def test_text_is_nfc_but_for_the_names_of_files(tmp_path: Path) -> None:
    columns = ["video_id", "path", "label", "creator_id"]
    words = pd.DataFrame([[COMBINING] * 4], columns=columns)
    words.to_csv(tmp_path / "manifest.csv", index=False)
    words.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "dense.csv").write_text(f"video_id,{COMBINING}\n{COMBINING},1\n")

    dataset = read_dataset(tmp_path)

    assert dataset.manifest[columns].to_numpy().tolist() == [["café", COMBINING, "café", "café"]]
    assert dataset.manifest.equals(read_text(tmp_path / "t.parquet", columns)[list(dataset.manifest)])
    assert dataset.dense.to_dict("list") == {"video_id": ["café"], "café": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"video_id,title\nv,one,\nw,two,\n",
            "the row in line 2 has 3 cells, the header 2; put text that holds a comma",
        ),
        (b'video_id,title\nv,"a\nb"\n\nw\n', "the row in line 5 has 1 cells, the header 2; "),
        (b"video_id,title,title\nv,1,2\n", "more than one column is called title; rename or remove all but one"),
        (f"video_id,café,{COMBINING}\nv,1,2\n".encode(), "more than one column is called café; "),
        (b",video_id\n0,v\n", "column 1 has no name; name or remove it"),
        ("video_id,title\nv,x\nw,é\n".encode("latin-1"), "line 3 is not UTF-8; save it as UTF-8, in a spreadsheet as"),
        ("video_id,title\nv,x\n".encode("utf-16"), "line 1 is not UTF-8; save it as UTF-8"),
        ("video_id,title\nv,x\n".encode("utf-16-le"), "is not UTF-8; save it as UTF-8"),
        (
            b"video_id;title\nv;x\n",
            "its header is one column, 'video_id;title', which ';' seems to divide; write it with",
        ),
        (b"video_id\ttitle\nv\tx\n", r"its header is one column, 'video_id\ttitle', which '\t' seems to divide; write"),
        (
            b'video_id,title\nv,x\nw,"open\nu,y\n',
            "not a readable csv table: the row that begins in line 3 is wrongly qu",
        ),
        (b'video_id,title\nv,"x\nw,"y"\n', "not a readable csv table: the row that begins in line 2 is wrongly quoted"),
        (b"", "not a readable csv table: its first line is empty"),
    ],
)
def test_what_is_no_sound_csv_is_refused_with_its_line_and_a_remedy(
    tmp_path: Path, content: bytes, message: str
) -> None:
    assert refusal(tmp_path / "table.csv", content).startswith(message)


def test_a_repeated_column_and_a_broken_file_are_refused_in_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(CpfdError, match=r"twice.parquet: more than one column is called a; "):
        read_columns(tmp_path / "twice.parquet")
    assert refusal(tmp_path / "broken.parquet", b"PAR1 and no more").startswith("not a readable parquet table: ")


def test_a_cell_may_be_longer_than_pythons_reader_allows_by_default(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"video_id,transcript\nv,{'word ' * 50_000}\n")
    assert len(read_text(tmp_path / "t.csv", ["transcript"], ())["transcript"][0]) == 250_000


def test_columns_of_a_dense_table_are_numbers_only_if_every_cell_is(tmp_path: Path) -> None:
    cells = ["1", " 2.5", "-3e2", "", "  ", "inf", "True", "+.5"]
    others = ["1", "nan", "1_000", "0x1F", "1,5", "NA", "many", "\N{FULLWIDTH DIGIT ONE}"]
    table = pd.DataFrame({"video_id": list("abcdefgh"), "all": cells, "some": others})
    table.to_csv(tmp_path / "dense.csv", index=False)

    dense = read_dense(tmp_path / "dense.csv")

    assert dense["all"].fillna(-1).tolist() == [1, 2.5, -300, -1, -1, np.inf, 1, 0.5]
    assert dense["some"].tolist() == others
    values, missing = numbers(dense["some"])
    assert np.isnan(values).tolist() == [False] + [True] * 7
    assert not missing.any()


@pytest.mark.parametrize("column", ["label", "split"])
def test_a_dense_table_has_no_column_of_the_manifest(tmp_path: Path, column: str) -> None:
    (tmp_path / "manifest.csv").write_text("video_id,label\nv,1\n")
    (tmp_path / "dense.csv").write_text(f"video_id,{column}\nv,1\n")
    with pytest.raises(CpfdError, match=f"dense.csv: {column} belongs to the manifest; rename or remove it here"):
        read_dataset(tmp_path)


words = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=9), st.integers(1, 4))
def test_csv_and_parquet_say_the_same_in_any_number_of_batches(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], together: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    table = pd.DataFrame(rows, columns=["video_id", "title"])
    table.to_csv(folder / "t.csv", index=False, lineterminator="\n")
    table.to_parquet(folder / "t.parquet")
    expected = [[unicodedata.normalize("NFC", cell) for cell in row] for row in rows]
    for name in ("t.csv", "t.parquet"):
        assert read_text(folder / name, list(table)).to_numpy().tolist() == expected
        batches = list(read_batches(folder / name, ["title"], together))
        assert max(batch.num_rows for batch in batches) <= together
        assert pa.concat_tables(batches).column_names == ["title"]
        assert sum(batch.num_rows for batch in batches) == len(rows)
