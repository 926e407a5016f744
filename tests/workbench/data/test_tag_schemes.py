"""Tag schemes: every spelling of entities becomes IOB2, with a warning; parts of speech stay as they are."""

from __future__ import annotations

import json
import warnings

import pytest

from minibert.io.errors import ConfigError, DataError
from minibert.workbench.data.corpora import Corpus, read
from minibert.workbench.kinds.tags import Tags
from tests.conftest import missing, refused


@pytest.fixture
def tagged(tmp_path):
    """A sentence with these tags, read from a file."""

    def sentence(tags: str, name: str = "a.conll", sep: str = "\t", **options) -> Corpus:
        path = tmp_path / name
        if name.endswith("conll"):
            path.write_text("".join(f"w{place}{sep}{tag}\n" for place, tag in enumerate(tags.split())))
        else:
            labels = tags.split()
            path.write_text(json.dumps({"text": [f"w{place}" for place in range(len(labels))], "label": labels}))
        return read(path, **options)

    return sentence


def tags_of(corpus: Corpus) -> str:
    return " ".join(corpus.label_names[tag] for example in corpus for tag in example.tags)


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("spelt", "iob2"),
    [
        ("B_PER I_PER O B_LOC", "B-PER I-PER O B-LOC"),
        ("B:PER I:PER O", "B-PER I-PER O"),
        ("B/PER I/PER O", "B-PER I-PER O"),
        ("b-per i-per o b-loc", "B-per I-per O B-loc"),
        ("b_per i_per", "B-per I-per"),
        ("PER-B PER-I O LOC-B", "B-PER I-PER O B-LOC"),
        ("PER_B PER_I O", "B-PER I-PER O"),
        ("B-PER I-PER E-PER O S-LOC", "B-PER I-PER I-PER O B-LOC"),
        ("B-PER I-PER L-PER O U-LOC", "B-PER I-PER I-PER O B-LOC"),
        ("B-NAME M-NAME E-NAME S-LOC O", "B-NAME I-NAME I-NAME B-LOC O"),
        ("S-PER O", "B-PER O"),
        ("PER PER O LOC PER", "B-PER I-PER O B-LOC B-PER"),
        ("person person O geo-loc", "B-person I-person O B-geo-loc"),
        ("B I O B", "B-ENTITY I-ENTITY O B-ENTITY"),
        ("B-X I-X B-Y b-Y O", "B-X I-X B-Y B-Y O"),
    ],
)
def test_every_spelling_of_entities_becomes_iob2_and_is_reported(tagged, spelt, iob2, name):
    with pytest.warns(UserWarning, match="read as entities") as told:
        corpus = tagged(spelt, name)
    assert len(told) == 1 and name in str(told[0].message)
    assert tags_of(corpus) == iob2
    assert Tags().watched(corpus) == "entity_f1"


@pytest.mark.parametrize(
    "tags", ["NN VB", "NOUN VERB PUNCT X", "ADJ P_D V_IMP", "AT-TL NN-TL NN", "V-FIN V-INF N", "1 2"]
)
@pytest.mark.filterwarnings("error")
def test_parts_of_speech_stay_as_they_are(tagged, tags):
    corpus = tagged(tags)
    assert tags_of(corpus) == tags and Tags().watched(corpus) == "word_accuracy"


def test_an_o_among_single_letters_is_reported_and_may_be_an_entity(tagged):
    """In the tags of Gimpel et al. (2011), for tweets, O is a pronoun."""
    with pytest.warns(UserWarning, match="I-PER.*--tag-scheme io"):
        corpus = tagged("O V P N")
    assert tags_of(corpus) == "O V P N" and Tags().watched(corpus) == "word_accuracy"
    assert tags_of(tagged("O V P P", tag_scheme="io")) == "O B-V B-P I-P"


@pytest.mark.filterwarnings("error")
def test_types_alone_are_tags_of_words_on_request(tagged):
    corpus = tagged("PER PER O", tag_scheme="none")
    assert tags_of(corpus) == "PER PER O" and Tags().watched(corpus) == "word_accuracy"
    with refused(ConfigError, "tag_scheme"):
        tagged("B-PER O", tag_scheme="none")


def test_a_spelling_is_checked_as_iob2_is(tagged, tmp_path):
    with pytest.warns(UserWarning), refused(DataError, f"{tmp_path / 'a.conll'}:1"):
        tagged("B_PER O I_PER")
    with pytest.warns(UserWarning):
        assert tags_of(tagged("B_PER O I_PER", tag_scheme="iob1")) == "B-PER O B-PER"
    for tags in ("B-X I-X NN", "PER O"):
        with refused(DataError, f"{tmp_path / 'a.conll'}:1"):
            tagged(tags, tag_scheme="iob2")


def test_other_splits_are_read_with_the_same_names(tagged):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train = tagged("B-PER E-PER S-LOC O")
        other = tagged("S-PER O B-LOC I-LOC E-LOC", "b.conll", **train.reading())
    assert tags_of(other) == "B-PER O B-LOC I-LOC I-LOC" and other.label_names == train.label_names


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [["O", "PER", "LOC"], ["O", "B-PER", "E-PER", "S-PER"]])
def test_the_tags_of_a_model_stay_in_its_spelling(tagged, names):
    assert tags_of(tagged(" ".join(names[1:]), label_names=names)) == " ".join(names[1:])


def test_names_that_a_file_stores_are_converted_with_its_tags(tmp_path):
    try:
        import pyarrow.parquet
    except ImportError:
        missing("pyarrow is not installed (pip install 'minibert[test]')")
    features = {"label": {"feature": {"names": ["O", "B_X", "I_X"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    table = pyarrow.Table.from_pylist([{"text": ["a", "b", "c"], "label": [1, 2, 0]}])
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match="B_X are read"):
        corpus = read(tmp_path / "a.parquet")
    assert tags_of(corpus) == "B-X I-X O" and corpus.label_names == ("B-X", "I-X", "O")


@pytest.mark.parametrize("sep", [" ", "  ", " \t", "\t"])
def test_spaces_or_tabs_separate_words_and_tags(tagged, sep):
    corpus = tagged("B-X I-X O", sep=sep)
    assert tags_of(corpus) == "B-X I-X O"
    assert [word.strip() for word in corpus[0].words] == ["w0", "w1", "w2"]
