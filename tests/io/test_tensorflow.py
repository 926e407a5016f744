"""TensorFlow's checkpoints: every byte is read as it was written, and every lie is an error."""

from __future__ import annotations

import random
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from minibert.io import tensorflow
from minibert.io.errors import CheckpointError
from minibert.io.tensorflow import TensorBundle, find
from tests import tensorflow_files as files
from tests.conftest import refused


@pytest.fixture(scope="module")
def fixture(data) -> Path:
    return data / "tiny_tf_bert"


VARIABLES = {
    "bert/embeddings/word_embeddings": torch.arange(12.0).view(3, 4),
    "bert/embeddings/word_embeddings/adam_m": torch.zeros(3, 4),
    "bert/pooler/dense/bias": torch.tensor([1.5, -2.0]),
    "global_step": torch.tensor(7),
}


@pytest.fixture
def prefix(tmp_path) -> Path:
    return files.write(tmp_path / "checkpoint" / "model.ckpt", VARIABLES)


def opened(place: Path) -> TensorBundle:
    return TensorBundle(*find(place))


def weights(bundle: TensorBundle) -> list[str]:
    return [name for name, variable in bundle.variables.items() if variable.dtype.startswith(("F", "BF"))]


def values(place: Path) -> dict[str, list]:
    bundle = opened(place)
    return {name: tensor.tolist() for name, tensor in bundle.read(weights(bundle)).items()}


def zipped(folder: Path, *more: tuple[str, bytes], inside: str = "model/", how: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive of a folder's files."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", how) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
        for name, content in more:
            archive.writestr(name, content)
    return path


# What is right.


def test_the_sum_of_rfc_3720_and_of_long_bytes():
    assert tensorflow.crc32c(b"123456789") == 0xE3069283
    assert tensorflow.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    raw = np.random.default_rng(0).bytes(3 * 2**16 + 711)
    for size in (0, 1, 255, 512, 1025, 2**16, 2**17, 2**17 + 1, len(raw)):
        assert tensorflow.crc32c(raw[:size]) == files.crc32c(raw[:size]), size


def test_the_fixture_is_read_to_the_bit(fixture):
    bundle = opened(fixture)
    assert len(bundle.variables) == 46 * 3 + 1
    content = (fixture / "bert_model.ckpt.data-00000-of-00001").read_bytes()
    for name, tensor in bundle.read(weights(bundle)).items():
        place = bundle.variables[name]
        assert tensor.numpy().tobytes() == content[place.offset : place.offset + place.size]
    assert bundle.variables["bert/embeddings/word_embeddings"].shape == (15, 4)
    assert bundle.variables["global_step"].dtype == "I64"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("per_block", [1, 7, 1000])
def test_several_shards_and_blocks(tmp_path, shards, per_block):
    names = [f"bert/encoder/layer_{layer}/{part}/kernel" for layer in range(20) for part in ("key", "query")]
    written = {name: torch.randn(4, 1 + number % 5) for number, name in enumerate(names)}
    bundle = opened(files.write(tmp_path / "model.ckpt-9", written, shards=shards, per_block=per_block))
    read = bundle.read(names)
    assert read.keys() == written.keys()
    assert all(torch.equal(read[name], written[name]) for name in names)
    assert bundle.read(names[3:5]).keys() == set(names[3:5])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_type_of_weights(tmp_path, dtype):
    written = torch.randn(5, 3).to(dtype)
    read = opened(files.write(tmp_path / "model.ckpt", {"bert/x": written})).read(["bert/x"])["bert/x"]
    assert read.dtype == dtype and torch.equal(read, written)


def test_it_is_found_by_any_of_its_names(prefix):
    expected = values(prefix)
    for name in (".index", ".data-00000-of-00001", ".meta"):  # the last is not even there
        assert values(prefix.with_name(prefix.name + name)) == expected
    assert values(prefix.parent) == values(prefix.parent.parent) == expected


@pytest.mark.parametrize("inside", ["", "uncased_L-2/", "a/b/"])
@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_read_where_it_is(prefix, inside, how):
    expected = values(prefix)
    beside_macos = ("__MACOSX/._model.ckpt.index", b"not an index")
    archive = zipped(prefix.parent, beside_macos, inside=inside, how=how)
    shutil.rmtree(prefix.parent)
    assert values(archive) == expected
    assert [*archive.parent.iterdir()] == [archive]


def test_several_checkpoints_in_one_folder_have_to_be_named(prefix):
    files.write(prefix.with_name("model.ckpt-2"), VARIABLES)
    with refused(CheckpointError, ".index") as caught:
        find(prefix.parent)
    assert "model.ckpt-2" in str(caught.value)
    assert values(prefix.with_name("model.ckpt-2")) == values(prefix)


@pytest.mark.parametrize("name", ["nothing", "nothing.zip", "model.ckpt.index"])
def test_nothing_there(tmp_path, name):
    with refused(CheckpointError, None):
        find(tmp_path / name)


def test_a_folder_and_a_file_without_a_checkpoint(tmp_path):
    with refused(CheckpointError, ".index"):
        find(tmp_path)
    (tmp_path / "model.tar.gz").write_bytes(b"not a zip archive")
    with refused(CheckpointError, None):
        find(tmp_path / "model.tar.gz")


# What is wrong: the index.


def index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def test_a_byte_of_the_index_that_is_another_changes_nothing_unseen(fixture, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(fixture, copy)
    whole, path = index(fixture / "bert_model.ckpt").read_bytes(), index(copy / "bert_model.ckpt")
    path.chmod(0o644)
    variables, unseen = opened(fixture).variables, 0
    for place in range(len(whole)):
        for mask in (0xFF, 1 << place % 8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
            try:
                assert opened(copy).variables == variables, place
                unseen += 1
            except CheckpointError as error:
                assert error.path is not None
    assert 0 < unseen < 100  # the rest of the footer is padding


def test_an_index_that_was_cut(fixture, tmp_path):
    whole = index(fixture / "bert_model.ckpt").read_bytes()
    for size in [*range(0, 60), *range(60, len(whole), 89)]:
        index(tmp_path / "cut").write_bytes(whole[:size])
        with refused(CheckpointError, None):
            opened(tmp_path / "cut")


def test_random_bytes_with_right_sums(tmp_path):
    """What a hostile writer can do: the sums are right, and the content of blocks is anything."""
    draw, outcomes = random.Random(0), set()
    entries = [(b"", files.header()), (b"bert/x", files.entry(1, (2,), (0, 0), bytes(8)))]
    good = files.block(entries)[:-5]
    for _ in range(3_000):
        body = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            body[draw.randrange(len(body))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        raw = bytes(body) + b"\0"
        raw += struct.pack("<I", files.masked(raw))
        listed = files.block([(b"z", files.varint(0) + files.varint(len(raw) - 5))])
        footer = files.varint(0) * 2 + files.varint(len(raw)) + files.varint(len(listed) - 5)
        index(tmp_path / "model").write_bytes(raw + listed + footer.ljust(40, b"\0") + files.MAGIC)
        (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(8))
        try:
            bundle = opened(tmp_path / "model")
            bundle.read(weights(bundle))
            outcomes.add("read")
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


ENTRY = files.entry(1, (2,), (0, 0), bytes(8))
WRONG = {
    "magic": files.table([(b"", files.header())])[:-1] + b"\0",
    "no header": files.table([(b"bert/x", ENTRY)]),
    "big-endian": files.table([(b"", files.header(endianness=1)), (b"bert/x", ENTRY)]),
    "snappy": files.table([(b"", files.header()), (b"bert/x", ENTRY)], kind=1),
    "keys twice": files.table([(b"", files.header()), (b"bert/x", ENTRY), (b"bert/x", ENTRY)]),
    "keys not sorted": files.table([(b"", files.header()), (b"b", ENTRY), (b"a", ENTRY)]),
    "keys not sorted between blocks": files.table([(b"", files.header()), (b"b", ENTRY), (b"a", ENTRY)], per_block=1),
    "a slice": files.table([(b"", files.header()), (b"bert/x", ENTRY + files.message((7, b"")))]),
    "a key of great length": files.table([(b"", files.header()), (b"a" * 2_000, ENTRY)]),
    "an overlong varint": files.table([(b"", files.header()), (b"bert/x", b"\x20" + b"\x80" * 10 + b"\1")]),
    "a varint of 70 bits": files.table([(b"", files.header()), (b"bert/x", b"\x20" + b"\xff" * 9 + b"\x7f")]),
    "a field beyond its message": files.table([(b"", files.header()), (b"bert/x", b"\x12\x7f\0")]),
    "a field of no kind": files.table([(b"", files.header()), (b"bert/x", b"\x0b")]),
    "a number for a shape": files.table([(b"", files.header()), (b"bert/x", files.message((2, 3)))]),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_index_that_lies(tmp_path, what):
    index(tmp_path / "model").write_bytes(WRONG[what])
    with refused(CheckpointError, None) as caught:
        opened(tmp_path / "model")
    assert caught.value.path == index(tmp_path / "model")


@pytest.mark.parametrize(("place", "handle"), [(0, 2**40), (2**63, 1), (0, 2**64 - 1), (0, 3)])
def test_a_block_that_is_not_inside_the_index(tmp_path, place, handle):
    listed = files.block([(b"z", files.varint(place) + files.varint(handle))])
    footer = files.varint(0) * 2 + files.varint(0) + files.varint(len(listed) - 5)
    index(tmp_path / "model").write_bytes(listed + footer.ljust(40, b"\0") + files.MAGIC)
    with refused(CheckpointError, None):
        opened(tmp_path / "model")


def test_an_index_of_any_size_is_not_read(tmp_path):
    with index(tmp_path / "model").open("wb") as file:
        file.truncate(2**33)
    with refused(CheckpointError, "model.index"):
        opened(tmp_path / "model")


# What is wrong: the values.


WORD = "bert/embeddings/word_embeddings"


@pytest.mark.parametrize(
    "lie",
    [
        *({"offset": 2**40}, {"offset": 2**64 - 1}, {"size": 47}, {"size": 2**63}, {"shape": (3, 5)}, {"shape": ()}),
        *({"shape": (2**31, 2**31)}, {"shape": (2**64 - 1,)}, {"dtype": 2}, {"shard": 1}, {"shard": 2**40}, {"crc": 0}),
    ],
    ids=str,
)
def test_a_variable_that_lies(tmp_path, lie):
    bundle = opened(files.write(tmp_path / "model", VARIABLES, changes={WORD: lie}))
    with refused(CheckpointError, WORD):
        bundle.read([WORD])


def test_variables_do_not_share_bytes(tmp_path):
    names = [f"bert/{number}" for number in range(4)]
    first = {"offset": 0}
    bundle = opened(files.write(tmp_path / "model", dict.fromkeys(names, torch.ones(4)), changes={names[2]: first}))
    with refused(CheckpointError, names[2]):
        bundle.read(names)


def test_a_flipped_bit_and_a_missing_end_of_the_values(fixture, tmp_path):
    shutil.copytree(fixture, tmp_path / "copy")
    path = tmp_path / "copy" / "bert_model.ckpt.data-00000-of-00001"
    path.chmod(0o644)
    bundle, whole = opened(fixture), path.read_bytes()
    expected = {name: tensor.tolist() for name, tensor in bundle.read(weights(bundle)).items()}
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        owner = [n for n, v in bundle.variables.items() if v.offset <= place < v.offset + v.size]
        with refused(CheckpointError, owner[0]):
            opened(tmp_path / "copy").read(weights(bundle))
    for size in range(0, len(whole) - 8, 797):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path / "copy").read(weights(bundle))
        assert caught.value.key in expected


def test_a_missing_shard(tmp_path):
    prefix = files.write(tmp_path / "model.ckpt", VARIABLES, shards=2)
    (tmp_path / "model.ckpt.data-00001-of-00002").unlink()
    bundle = opened(prefix)
    assert bundle.read([WORD]).keys() == {WORD}  # it is in the other
    with refused(CheckpointError, f"{WORD}/adam_m"):
        bundle.read(weights(bundle))


@pytest.mark.skipif(not hasattr(__import__("os"), "mkfifo"), reason="needs links and pipes")
def test_links_out_of_the_folder_and_pipes_are_not_read(prefix, tmp_path):
    shard = prefix.with_name("model.ckpt.data-00000-of-00001")
    outside = tmp_path / "elsewhere"
    shutil.move(shard, outside)
    shard.symlink_to(outside)
    with pytest.raises(CheckpointError):
        values(prefix)


# What is wrong: archives.


def test_an_encrypted_archive(prefix):
    archive = zipped(prefix.parent)
    raw = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = raw.find(mark)
        while place >= 0:
            raw[place + flags] |= 1
            place = raw.find(mark, place + 1)
    archive.write_bytes(raw)
    with refused(CheckpointError, "model/model.ckpt.index"):
        opened(archive)


def test_an_archive_with_another_compression(prefix):
    with refused(CheckpointError, "model/model.ckpt.index"):
        opened(zipped(prefix.parent, how=zipfile.ZIP_LZMA))


def test_a_small_archive_that_would_fill_the_memory(tmp_path):
    prefix = files.write(tmp_path / "bomb" / "model", {"bert/x": torch.zeros(8, 2**15)})
    bundle = opened(zipped(prefix.parent))
    assert bundle.package.path.stat().st_size < 20_000
    with refused(CheckpointError, "model/model.data-00000-of-00001"):
        bundle.read(["bert/x"])


@pytest.mark.parametrize("inside", ["../", "../../up/", "/tmp/", "C:\\", "..\\"])
def test_names_that_lead_out_of_an_archive_lead_nowhere(prefix, inside):
    before = sorted(prefix.parent.parent.parent.rglob("*"))
    archive = zipped(prefix.parent, inside=inside)
    assert values(archive) == values(prefix)
    assert sorted(prefix.parent.parent.parent.rglob("*")) == sorted([*before, archive])


def test_damaged_archives_give_errors_of_ours(prefix):
    archive, expected = zipped(prefix.parent), values(prefix)
    whole, draw, refusals = archive.read_bytes(), random.Random(0), 0
    for turn in range(1_500):
        raw = bytearray(whole)
        if turn % 5 == 0:
            del raw[draw.randrange(len(raw)) :]
        else:
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        archive.write_bytes(raw)
        try:
            assert values(archive) == expected, turn
        except CheckpointError:
            refusals += 1
    assert refusals > 500
