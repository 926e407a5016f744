"""The pieces of texts, for people."""

from minibert.workbench.tasks.tokenize import tokenize


def test_tokenized_texts_can_be_read(tiny):
    [row] = tokenize(tiny, ["Happy zoo"], ["one day"])
    assert row.pieces[:5] == [
        ("[CLS]", 2, 0, 0),
        ("happy", row.pieces[1][1], 0, 5),
        ("z", row.pieces[2][1], 6, 7),
        ("##o", row.pieces[3][1], 7, 8),
        ("##o", row.pieces[4][1], 8, 9),
    ]
    assert [piece for piece, *_ in row.pieces[5:]] == ["[SEP]", "one", "day", "[SEP]"]
    assert str(row).splitlines()[0] == "Happy zoo (9 pieces)"
    [long] = tokenize(tiny, ["day " * 40])
    assert str(long).splitlines()[0].endswith("(30 pieces, 12 more cut)")
