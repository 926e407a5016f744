"""Mistakes of plain text and trained vocabularies."""

from tests.programs.faults.fault import faults

FAULTS = [
    *faults(
        "tokenizer.py",
        "workbench/tasks/test_vocabulary",
        ("the order of a set", "special_tokens=list(first),", "special_tokens=first[:5],"),
        ("every word counts once", 'f"{word} " * count', 'f"{word} "'),
    ),
    *faults(
        "workbench/tasks/vocabulary.py",
        "workbench/tasks/test_vocabulary",
        ("characters that occur once", "if count >= _LEAST_COUNT)", "if count >= 1)"),
        ("no ## forms of characters", "*often, *continuing]", "*often]"),
        (
            "capitals are lost",
            "return BertTokenizer(vocabulary, lowercase=lowercase, max_length=max_length)",
            "return BertTokenizer(vocabulary, max_length=max_length)",
        ),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_documents",
        ("a title ends a sentence", "if short or (following", "if (following"),
        ("an initial ends a sentence", 'if "." in word or (len', "if (len"),
        ("a wrapped line ends a sentence", 'r"\\n\\s*\\n|\\n(?=', 'r"\\n\\s*\\n|\\n(?=|'),
        (
            "a folder as the disk has it",
            "below = sorted(path for path in source",
            "below = list(path for path in source",
        ),
        ("code is prose", "if code_from is not None and indent >= code_from:", "if False:"),
        ("docstrings twice", "if text not in seen]", "]"),
        (
            "a fingerprint without ends of texts",
            "sums.update(hashlib.sha256(document.text.encode()).digest())",
            "sums.update(document.text.encode())",
        ),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_labels",
        ("vectors are lists of names", "return width > 1 and (len", "return width > 99 and (len"),
        (
            "1.0 is another class than 1",
            "return name_of(label) if number is None or not number.is_integer() else str(int(number))",
            "return name_of(label)",
        ),
        ("thousands are decimals", "if points or all(map(_THOUSANDS.fullmatch, commas)):", "if points:"),
        ("a list saved as text is a name", "if _LIST_AS_TEXT.fullmatch(text)]", "if False]"),
        ("a name twice in a list", "for name, count in Counter(names).items() if count > 1]", "for name in ()]"),
        ("None is a class", 'MISSING |= {"None", ', "MISSING |= {"),
        ("rows are left out without a word", "dropped = tuple(map(_short, bad))", "dropped = ()"),
        ("the first bad row hides the others", "if len(bad) == 1:", "if True:"),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_folders",
        ("a hidden file is a text", ' or any(part[0] == "." for part in (*above, name))', ""),
    ),
    *faults(
        "workbench/data",
        "workbench/data/test_forms",
        ("quotes of a text are a program's", "            if not whole_row.fullmatch(row):", "            if False:"),
    ),
    *faults(
        "workbench/tasks",
        "workbench/test_cli",
        ("measured on what it was trained on", "    del every[_HELD_OUT - 1 :: _HELD_OUT]\n", ""),
    ),
]
