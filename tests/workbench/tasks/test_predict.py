"""Predictions, filled masks and sentence vectors against transformers and sentence-transformers."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch
import transformers

from minibert import (
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from minibert.io.errors import CheckpointError, ConfigError, DataError
from minibert.workbench.kinds.evaluation import Report
from minibert.workbench.kinds.tags import FoundEntity, TaggedText, TaggedWord
from minibert.workbench.tasks.evaluate import evaluate_file
from minibert.workbench.tasks.predict import (
    Embedder,
    MaskFiller,
    Predictor,
    sentence_recipe,
    tokenize,
)
from tests.conftest import BOUNDS
from tests.workbench.conftest import MOODS, save_model, sentence

FP32 = BOUNDS["official model fp32"]
LABELS = {"id2label": dict(enumerate(MOODS)), "initializer_range": 0.5}


def save_classifier(folder, kind=BertForSequenceClassification, **changes):
    return save_model(folder, kind, **{**LABELS, **changes})


def mixed_texts() -> list[str]:
    """Texts of 3 to 20 words, in no order of length."""
    draw = random.Random(3)
    return [" ".join([sentence(draw, "happy")] * draw.randint(1, 2)) for _ in range(40)]


def their_logits(folder, kind, texts, pairs=None) -> list[torch.Tensor]:
    """transformers' logits of each text alone."""
    model = kind.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [
            model(**tokenizer(*one, truncation=True, max_length=30, return_tensors="pt")).logits[0]
            for one in (zip(texts, pairs, strict=True) if pairs else ((text,) for text in texts))
        ]


# Classes


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier") / "model")


def test_predictions_are_softmax_of_transformers_logits_in_the_order_given(classifier):
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(classifier, precision="fp32")(texts, batch_size=7)
    theirs = their_logits(classifier, transformers.BertForSequenceClassification, texts)
    assert [prediction.text for prediction in predictions] == texts
    assert len({prediction.label for prediction in predictions}) > 1
    for prediction, logits in zip(predictions, theirs, strict=True):
        expected = logits.softmax(dim=-1)
        found = [prediction.probabilities[name] for name in MOODS]
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=FP32)
        assert prediction.label == MOODS[int(expected.argmax())]
        assert prediction.probability == max(found)
        assert list(prediction.probabilities)[0] == prediction.label


def test_one_text_and_no_texts(classifier):
    predictor = Predictor.from_pretrained(classifier, precision="fp32")
    [prediction] = predictor("one happy day")
    assert str(prediction) == (
        f"{prediction.label:<12}  {prediction.probability:.3f}  one happy day"
    )
    assert predictor([]) == []


def test_pairs_are_read_as_pairs(classifier):
    firsts, seconds = mixed_texts()[:6], mixed_texts()[6:12]
    predictor = Predictor.from_pretrained(classifier, precision="fp32")
    with pytest.warns(UserWarning, match="were cut"):
        predictions = predictor(firsts, seconds)
    theirs = their_logits(classifier, transformers.BertForSequenceClassification, firsts, seconds)
    for prediction, logits in zip(predictions, theirs, strict=True):
        found = [prediction.probabilities[name] for name in MOODS]
        np.testing.assert_allclose(found, logits.softmax(dim=-1).numpy(), rtol=0, atol=FP32)
    with pytest.raises(DataError, match="There are 6 texts and 2 second texts"):
        predictor(firsts, seconds[:2])
    assert predictor("good", "bad") == predictor(["good"], ["bad"])


def test_a_long_text_is_cut_with_one_warning(classifier):
    long = "happy day " * 5000
    with pytest.warns(UserWarning) as caught:
        [prediction, _] = Predictor.from_pretrained(classifier)([long, "one"])
    assert [str(warning.message) for warning in caught] == [
        "1 of 2 texts had more than 30 tokens and were cut (9972 tokens lost)."
    ]
    [cut] = Predictor.from_pretrained(classifier)(["happy day " * 14])
    assert prediction.probability == pytest.approx(cut.probability, abs=FP32)


def test_something_that_is_no_text_is_named(classifier):
    with pytest.raises(DataError, match="row 1|Row 1|text 1"):
        Predictor.from_pretrained(classifier)(["one", None])


def test_several_labels(tmp_path):
    folder = save_classifier(tmp_path, problem_type="multi_label_classification")
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(folder, precision="fp32")(texts)
    theirs = their_logits(folder, transformers.BertForSequenceClassification, texts)
    assert len({len(prediction.label) for prediction in predictions}) > 1
    for prediction, logits in zip(predictions, theirs, strict=True):
        chances = logits.sigmoid()
        assert set(prediction.label) == {MOODS[i] for i in range(3) if chances[i] > 0.5}
        sure = torch.maximum(chances, 1 - chances).min().item()
        assert prediction.probability == pytest.approx(sure, abs=FP32)
        assert ", ".join(prediction.label) in str(prediction)


def test_a_number(tmp_path):
    folder = save_classifier(tmp_path, problem_type="regression", id2label={0: "LABEL_0"})
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(folder, precision="fp32")(texts)
    theirs = their_logits(folder, transformers.BertForSequenceClassification, texts)
    for prediction, logits in zip(predictions, theirs, strict=True):
        assert prediction.label == pytest.approx(logits.item(), abs=FP32)
        assert prediction.probability is None and prediction.probabilities == {}
        assert str(prediction).startswith(f"{prediction.label:.4f}")


def test_distilbert(tmp_path):
    folder = save_classifier(tmp_path, model_type="distilbert", type_vocab_size=0)
    texts = mixed_texts()
    predictions = Predictor.from_pretrained(folder, precision="fp32")(texts)
    model = transformers.DistilBertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    for prediction, text in zip(predictions, texts, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(inputs["input_ids"], inputs["attention_mask"]).logits[0]
        expected = logits.softmax(dim=-1).max().item()
        assert prediction.probability == pytest.approx(expected, abs=FP32)


# Tags


def test_tags_are_those_of_the_first_piece_of_each_word(tmp_path):
    names = ("B-person", "I-person", "O")
    folder = save_classifier(tmp_path, BertForTokenClassification, id2label=dict(enumerate(names)))
    texts = ["Anna is  in the zoo.", *mixed_texts()[:9]]
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    predictions = predictor(texts, batch_size=3)
    assert [word.word for word in predictions[0].words] == ["Anna", "is", "in", "the", "zoo", "."]
    theirs = their_logits(folder, transformers.BertForTokenClassification, texts)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    seen = set()
    for prediction, logits, text in zip(predictions, theirs, texts, strict=True):
        words = [word.word for word in prediction.words]
        word_ids = tokenizer(words, is_split_into_words=True).word_ids()
        for entity in prediction.entities:
            assert f"[{text[entity.start : entity.end]} {entity.type}]" in str(prediction)
        for number, word in enumerate(prediction.words):
            chances = logits[word_ids.index(number)].softmax(dim=-1)
            assert word.tag == names[int(chances.argmax())]
            assert word.probability == pytest.approx(chances.max().item(), abs=FP32)
            assert text[word.start : word.end] == word.word
            seen.add(word.tag)
    assert len(seen) > 1
    unfound = [TaggedWord("so", 0, 2, "O", 0.9), TaggedWord("far", 3, 6, "O", 0.9)]
    assert str(TaggedText("so far", unfound, [])) == "so far  (no entities)"
    parts = [TaggedWord("so", 0, 2, "ADV", 0.9), TaggedWord("far", 3, 6, "ADV", 0.9)]
    assert str(TaggedText("so far", parts, [])) == "so/ADV far/ADV"
    entity = FoundEntity("a", 0, 1, "person", 0.9)
    assert str(TaggedText("a b", [TaggedWord("a", 0, 1, "B-person", 0.9)], [entity])).startswith(
        "[a person] b\n"
    )
    with pytest.raises(DataError, match="takes no second text"):
        predictor(["one"], ["two"])
    with pytest.raises(DataError, match="Row 1 is neither"):
        predictor(["one", None])


def test_words_are_split_into_pieces_as_in_training(tmp_path):
    """Predictions are those of an evaluation, whose corpus says what a word is."""
    names = ("B-person", "I-person", "O")
    folder = save_classifier(
        tmp_path / "model", BertForTokenClassification, id2label=dict(enumerate(names))
    )
    words = ["@anna", "can't", "walk", "so.very", "far", "e-g", "#rain"]
    (tmp_path / "x.conll").write_text("".join(f"{word}\tO\n" for word in words))
    report = evaluate_file(folder, tmp_path / "x.conll", progress=False)
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    for given in (" ".join(words), words):
        [prediction] = predictor([given])
        assert [word.word for word in prediction.words] == words
        assert " ".join(word.tag for word in prediction.words) == report.rows[0]["prediction"]
        for word in prediction.words:
            assert prediction.text[word.start : word.end] == word.word
    assert len(set(report.rows[0]["prediction"].split())) > 1
    assert predictor([" "])[0].words == predictor([[]])[0].words == []


def test_a_report_keeps_its_columns_narrow_and_its_numbers_aligned():
    tags = "O " * 40
    row = {"loss": 1.5, "label": tags, "prediction": tags, "text": "so far"}
    line = Report("test", "token_classification", (), {}, None, [row]).worst().splitlines()[1]
    assert line.endswith("...  so far") and len(line) == 5 + 2 * (2 + 24) + 2 + len("so far")
    row = {**row, "label": 4.0, "prediction": 3.141592653589793}
    line = Report("test", "regression", (), {}, None, [row]).worst().splitlines()[1]
    assert line.split() == ["1.500", "4.0000", "3.1416", "so", "far"]
    scores = {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    metrics = {
        "examples": 1207,
        "classes": {"a": {**scores, "support": 7}, "b": {**scores, "support": 1200}},
    }
    summary = Report("test", "single_label_classification", ("a", "b"), metrics, None, []).summary()
    assert [line[-7:] for line in summary.splitlines()[-3:]] == ["support", "      7", "  1,200"]


# What is refused


def test_an_untrained_head_is_refused_with_what_to_do(tiny, minilm):
    for source in (tiny, minilm):
        with pytest.raises(CheckpointError, match="Fine-tune it first: minibert train --model"):
            Predictor.from_pretrained(source)
    [prediction] = Predictor.from_pretrained(tiny, allow_untrained=True)(["one day"])
    assert prediction.label in ("LABEL_0", "LABEL_1")


def test_a_classifier_whose_head_is_not_in_the_file(tiny, tmp_path):
    """config.json says that it is one, and the weights are those of another model."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="classifier.weight"):
        Predictor.from_pretrained(folder)
    assert Predictor.from_pretrained(folder, allow_untrained=True)("one day")


def test_a_device_and_a_precision_that_are_not_there(classifier):
    with pytest.raises(ConfigError, match="'abacus' cannot be used"):
        Predictor.from_pretrained(classifier, device="abacus")
    with pytest.raises(ConfigError, match="batch_size"):
        Predictor.from_pretrained(classifier)(["one"], batch_size=0)


# Masks


def test_masks_are_filled_as_transformers_fills_them(old_names):
    filler = MaskFiller.from_pretrained(old_names)
    model, report = transformers.BertForMaskedLM.from_pretrained(
        old_names, output_loading_info=True
    )
    assert not report["missing_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(old_names)
    for text in ("Paris is the [MASK] of France.", "[MASK] is [MASK]"):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model.eval()(**inputs).logits[0]
        places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten()
        best, ids = logits[places].softmax(dim=-1).topk(7)
        filled = filler(text, top=7)
        assert len(filled) == len(places)
        for mask, chances, row in zip(filled, best, ids, strict=True):
            assert [piece for piece, _ in mask.pieces] == tokenizer.convert_ids_to_tokens(row)
            np.testing.assert_allclose(
                [chance for _, chance in mask.pieces], chances.numpy(), rtol=0, atol=FP32
            )
    pipe = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=5)
    expected = [row["token_str"] for row in pipe("Paris is the [MASK] of France.")]
    [mask] = filler("Paris is the [MASK] of France.")
    assert [piece.removeprefix("##") for piece, _ in mask.pieces] == [
        piece.removeprefix("##") for piece in expected
    ]
    assert str(mask).splitlines()[1] == f"  {mask.pieces[0][1]:.3f}  {mask.pieces[0][0]}"


def test_the_pre_training_head_fills_masks_too(tmp_path):
    folder = save_model(tmp_path, BertForPreTraining)
    [mask] = MaskFiller.from_pretrained(folder)("one [MASK] day", top=3)
    model = transformers.BertForPreTraining.from_pretrained(folder).eval()
    inputs = transformers.BertTokenizer.from_pretrained(folder)(
        "one [MASK] day", return_tensors="pt"
    )
    with torch.no_grad():
        chances = model(**inputs).prediction_logits[0, 2].softmax(dim=-1).topk(3).values
    np.testing.assert_allclose(
        [chance for _, chance in mask.pieces], chances.numpy(), rtol=0, atol=FP32
    )


def test_more_pieces_than_there_are_gives_them_all(tiny):
    [mask] = MaskFiller.from_pretrained(tiny)("one [MASK]", top=10**6)
    assert len(mask.pieces) == BertModel.from_pretrained(tiny).config.vocab_size
    assert sum(chance for _, chance in mask.pieces) == pytest.approx(1, abs=BOUNDS["module fp32"])


def test_a_mask_is_a_mask_where_special_tokens_in_texts_are_characters(tmp_path):
    folder = save_model(tmp_path)
    config = folder / "tokenizer_config.json"
    before = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**before, "split_special_tokens": True}))
    [mask] = MaskFiller.from_pretrained(folder)("one [MASK] day")
    assert len(mask.pieces) == 5


def test_each_of_several_masks_has_its_number(tiny):
    filled = MaskFiller.from_pretrained(tiny)("one [MASK] [MASK] day", top=1)
    assert [(mask.number, mask.of) for mask in filled] == [(1, 2), (2, 2)]
    assert str(filled[1]).startswith("one [MASK] [MASK] day ([MASK] 2 of 2)\n")
    [alone] = MaskFiller.from_pretrained(tiny)("one [MASK]", top=1)
    assert str(alone).startswith("one [MASK]\n")


def test_a_text_that_the_model_cannot_read_is_warned_of(tiny):
    with pytest.warns(UserWarning, match=r"3 pieces of '.*' are \[UNK\]"):
        MaskFiller.from_pretrained(tiny)("這部電 [MASK]", top=1)


def test_what_cannot_be_filled(tiny, minilm):
    filler = MaskFiller.from_pretrained(tiny)
    with pytest.raises(DataError, match=r"There is no \[MASK\] in 'one day'"):
        filler("one day")
    with pytest.warns(UserWarning, match="cut"), pytest.raises(DataError, match="1 of 2 .MASK."):
        filler("one [MASK]" + " day" * 40 + " [MASK]")
    with pytest.raises(ConfigError, match="top is 0"):
        filler("[MASK]", top=0)
    with pytest.raises(CheckpointError, match="is a BertModel, and this needs a BertForMaskedLM"):
        MaskFiller.from_pretrained(minilm)


# Sentence vectors


@pytest.fixture(scope="module")
def fifty_texts() -> list[str]:
    """Of 1 to 400 words, one of them past the 256 tokens that the folder allows."""
    draw = random.Random(4)
    words = [
        "naïve",
        "Tokyo",
        "東京",
        "rain",
        "the",
        "of",
        "unbelievable",
        "3.14",
        "don't",
        "e-mail",
        "@home",
        "tree",
        "...",
        "so",
    ]
    lengths = [1, 400, *(draw.randint(1, 60) for _ in range(47))]
    return [*(" ".join(draw.choices(words, k=length)) for length in lengths), " "]


def variant(minilm, folder, pooling=None, normalize=True, **limits):
    """The MiniLM folder with another pooling."""
    folder.mkdir()
    for path in minilm.iterdir():
        if path.suffix in (".json", ".txt", ".safetensors"):
            shutil.copy(path, folder)
    (folder / "1_Pooling").mkdir()
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    settings = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    settings["word_embedding_dimension"] = 384
    (folder / "1_Pooling/config.json").write_text(json.dumps(settings))
    modules = json.loads((minilm / "modules.json").read_text())
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules[: 3 if normalize else 2]))
    if limits:
        (folder / "sentence_bert_config.json").unlink()
        (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    return folder


def their_vectors(folder, texts) -> np.ndarray:
    import sentence_transformers  # seconds to import, for this alone

    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return model.encode(texts, show_progress_bar=False, batch_size=16)


def test_vectors_are_those_of_sentence_transformers(minilm, fifty_texts):
    with pytest.warns(UserWarning, match="1 of 50 texts had more than 256 tokens"):
        ours = Embedder.from_pretrained(minilm)(fifty_texts, batch_size=16)
    assert ours.shape == (50, 384) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, their_vectors(minilm, fifty_texts), rtol=0, atol=FP32)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=0, atol=FP32)


@pytest.mark.parametrize(
    "pooling, normalize", [("cls_token", True), ("max_tokens", True), ("mean_tokens", False)]
)
def test_other_poolings_are_those_of_sentence_transformers(
    minilm, fifty_texts, tmp_path, pooling, normalize
):
    texts = fifty_texts[2:14]
    folder = variant(minilm, tmp_path / "model", pooling, normalize, max_seq_length=20)
    with pytest.warns(UserWarning, match="more than 20 tokens"):
        ours = Embedder.from_pretrained(folder)(texts)
    np.testing.assert_allclose(ours, their_vectors(folder, texts), rtol=0, atol=FP32)


def test_what_the_caller_says_comes_before_what_the_folder_says(minilm, tmp_path):
    texts = ["one", "a second text"]
    said = Embedder.from_pretrained(minilm, pooling="cls", normalize=False)(texts)
    folder = variant(minilm, tmp_path / "model", "cls_token", normalize=False)
    np.testing.assert_array_equal(said, Embedder.from_pretrained(folder)(texts))
    with pytest.raises(ConfigError, match="no pooling called 'median'"):
        Embedder.from_pretrained(minilm, pooling="median")


def test_without_modules_json_vectors_are_plain_means(tiny):
    texts = mixed_texts()
    vectors = Embedder.from_pretrained(tiny)(texts, batch_size=3)
    model = transformers.BertModel.from_pretrained(tiny).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(tiny)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden.mean(dim=0).numpy(), rtol=0, atol=FP32)
    assert Embedder.from_pretrained(tiny)([]).shape == (0, 32)


def test_vectors_do_not_depend_on_the_batch(minilm, fifty_texts):
    embedder = Embedder.from_pretrained(minilm)
    texts = fifty_texts[2:10]
    alone = np.concatenate([embedder(text) for text in texts])
    np.testing.assert_allclose(embedder(texts), alone, rtol=0, atol=FP32)


def test_vectors_are_written_whole(tmp_path):
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    Embedder.write(tmp_path / "deep" / "vectors.npy", vectors)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "vectors.npy"), vectors)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["vectors.npy"]


def modules(*kinds: str) -> str:
    return json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])


@pytest.mark.parametrize(
    "written, pooling, message",
    [
        (modules("Transformer", "Pooling", "Dense"), {"pooling_mode": "mean"}, "a module Dense"),
        (modules("WordEmbeddings"), None, "a module WordEmbeddings"),
        ('{"type": "Transformer"}', None, "is not a list of modules"),
        ("[", None, "is not valid JSON"),
        (modules("Transformer", "Pooling"), None, "could not be read"),
        (modules("Pooling"), {"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        (
            modules("Pooling"),
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            "but one of mean, cls and max is needed",
        ),
        (modules("Pooling"), {"pooling_mode": "lasttoken"}, "lasttoken"),
    ],
)
def test_odd_sentence_recipes_are_refused(tmp_path, written, pooling, message):
    (tmp_path / "modules.json").write_text(written)
    if pooling is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(CheckpointError, match=message):
        sentence_recipe(tmp_path)


def test_lower_case_that_the_tokenizer_does_not_make_is_refused(tmp_path):
    folder = save_model(tmp_path / "model", BertModel)
    (folder / "modules.json").write_text(modules("Transformer"))
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    upper, lower = Embedder.from_pretrained(folder)(["One Day", "one day"])
    np.testing.assert_array_equal(upper, lower)  # this tokenizer makes it
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(CheckpointError, match=r"in lower case .*its tokenizer keeps capitals"):
        Embedder.from_pretrained(folder)


def test_both_spellings_of_a_pooling(tmp_path):
    (tmp_path / "modules.json").write_text(modules("Transformer", "Pooling", "Normalize"))
    (tmp_path / "1_Pooling").mkdir()
    for settings in ({"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
        recipe = sentence_recipe(tmp_path)
        assert (recipe.pooling, recipe.normalize, recipe.max_length) == ("cls", True, None)


@pytest.mark.parametrize(("stored", "longest"), [("128", 128), ("128.0", 128), ("null", None)])
def test_a_whole_number_of_tokens_in_any_spelling(stored, longest, tmp_path):
    (tmp_path / "modules.json").write_text(modules("Transformer"))
    limits = tmp_path / "sentence_bert_config.json"
    limits.write_text(f'{{"max_seq_length": {stored}}}')
    found = sentence_recipe(tmp_path).max_length
    assert found == longest and type(found) is type(longest)
    for wrong in ("0", "0.0", "12.5", "-3", "true", '"128"', "[]"):
        limits.write_text(f'{{"max_seq_length": {wrong}}}')
        with pytest.raises(CheckpointError, match="max_seq_length .* not a number of tokens"):
            sentence_recipe(tmp_path)


# Tokens


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
