"""Short texts made up from lists of words, so that the models meet more than films and novels.

Half of them put words of a large vocabulary into simple sentences; what these mean is for the
teacher to say. The others are opinions, labelled by the words they are made of. They were written
without looking at the samples or at the plain sentences to test on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split("|")]


THINGS = _words(
    """
    food soup bread coffee tea breakfast dinner cake pizza salad wine beer meal menu dessert steak fish curry
    sandwich hotel room bed bathroom shower view pool lobby staff waiter waitress manager receptionist driver
    nurse doctor teacher service delivery order parcel package refund website app update phone screen battery
    camera laptop keyboard printer speaker headphones charger cable software game console controller book novel
    story chapter ending plot author film movie series episode show play concert album song band singer actor
    actress cast director music museum exhibition garden park beach weather day evening morning holiday trip
    journey flight train bus taxi airport station seat ticket price car bike engine road shop store shoes boots
    jacket dress shirt coat bag watch chair sofa table lamp mattress pillow kettle toaster oven vacuum drill paint
    repair haircut gym class course lesson lecture party wedding gift toy puppy house flat kitchen neighbourhood
    city restaurant cafe bar bakery market design quality sound picture colour fabric taste smell atmosphere
    """
)
GOOD = _words(
    """
    great good excellent wonderful lovely fantastic amazing brilliant superb perfect delightful beautiful
    delicious tasty fresh friendly helpful kind polite warm cosy comfortable clean spotless quiet charming elegant
    stylish reliable sturdy solid fast quick easy smooth cheap affordable generous fun funny hilarious exciting
    gripping touching moving clever impressive outstanding remarkable pleasant relaxing refreshing enjoyable
    satisfying fabulous terrific marvellous magnificent stunning gorgeous splendid incredible awesome useful
    thoughtful attentive flawless memorable adorable nice fine super first-rate top-notch heavenly crisp bright
    sunny
    """
)
BAD = _words(
    """
    bad terrible awful horrible poor dreadful disgusting nasty dirty filthy rude unfriendly unhelpful slow late
    cold stale bland tasteless greasy soggy burnt overpriced expensive noisy loud cramped uncomfortable broken
    faulty useless worthless flimsy cheap-looking ugly boring dull tedious predictable confusing annoying
    irritating frustrating disappointing pathetic ridiculous stupid pointless unreliable unusable buggy sluggish
    smelly mouldy damp rotten rancid miserable depressing gloomy shabby careless lazy dishonest appalling
    atrocious abysmal mediocre lousy unpleasant painful unbearable ruined disastrous inedible lifeless forgettable
    weak worst shoddy second-rate
    """
)
VERY = ["very", "really", "so", "absolutely", "quite", "truly", "extremely", "incredibly", "just", "pretty"]
LIKE = _phrases(
    """
    love| loved| really liked| like| enjoyed| adore| adored| recommend| highly recommend| am delighted with| am
    happy with| am impressed by| cannot praise enough| will come back for| was pleased with| fell in love with| am
    grateful for| will buy again
    """
)
DISLIKE = _phrases(
    """
    hate| hated| dislike| disliked| regret| cannot stand| would avoid| am disappointed with| am sick of| am
    unhappy with| complained about| cannot recommend| was disgusted by| was bored by| sent back| threw away| want
    a refund for| would not wish on anyone
    """
)
WENT_WELL = _phrases(
    """
    works perfectly| made my day| exceeded our expectations| was worth every penny| arrived early| made us smile|
    never lets me down| could not be better| is the best i have had| was a pleasure| made me laugh out loud| kept
    me hooked| was a dream| is a joy to use| tasted like heaven| felt like home| saved the day| is a bargain| went
    without a hitch| looks even better than in the pictures| gets better every time| is still going strong
    """
)
WENT_WRONG = _phrases(
    """
    broke after a week| fell apart| was a waste of money| never arrived| made me ill| does not work| was a
    disaster| let us down| could not be worse| is the worst i have had| was a nightmare| nearly put me to sleep|
    ruined the evening| keeps crashing| stopped working| tasted like cardboard| felt like a prison| gave me a
    headache| is a rip-off| went wrong from the start| looks nothing like the pictures| gets worse every time| was
    falling to pieces
    """
)
WHOSE = ["the", "the", "the", "this", "my", "our", "their", "your", "that"]
BARE = ["{0}", "{0} {1}", "the {0} was {1}.", "the {0} is {1}", "i {0} the {1}.", "a {0} {1}", "she {0} {1} the {2}.",
        "what a {0} {1}", "{0} and {1}", "the {0} of {1}", "it was {0} {1}", "we {0} to the {1}", "not {0}",
        "he is {0}, but {1}.", "they {0} because the {1} was {2}.", "no {0}", "my {0} {1}", "{0} is a kind of {1}",
]  # fmt: skip


def made_up_texts(words: Sequence[str], count: int) -> Iterator[tuple[str, int | None]]:
    """Texts, and 1 for praise, 0 for a complaint, None where the words don't tell."""
    draw = random.Random(1)
    common = words[: len(words) // 4]  # a vocabulary lists frequent words first
    for number in range(count):
        if number % 2:
            yield _bare(words if draw.random() < 0.6 else common, draw), None
        else:
            good = draw.random() < 0.5
            yield _opinion(good, draw), int(good)


def _bare(words: Sequence[str], draw: random.Random) -> str:
    thing = draw.choice(THINGS) if draw.random() < 0.3 else draw.choice(words)
    rest = [draw.choice(words), draw.choice(words)]
    return draw.choice(BARE).format(thing, *rest)


def _opinion(good: bool, draw: random.Random) -> str:
    clause = _clause(good, draw)
    chance = draw.random()
    if chance < 0.25:
        clause = f"{clause}{draw.choice([' and', ',', '.', ' and'])} {_clause(good, draw)}"
    elif chance < 0.35:  # the second half decides
        clause = f"{_clause(not good, draw)}, but {clause}"
        clause = draw.choice(["", "i was told that ", "they say "]) + clause
    elif chance < 0.4:
        clause = f"everyone said {_clause(not good, draw)}. in fact {clause}"
    clause = re.sub(r"\ba (?=[aeiou])", "an ", clause)
    return clause + draw.choice(["", ".", ".", "!"])


def _clause(good: bool, draw: random.Random) -> str:
    thing, whose = draw.choice(THINGS), draw.choice(WHOSE)
    word = draw.choice(GOOD if good else BAD)
    very = f"{draw.choice(VERY)} " if draw.random() < 0.4 else ""
    is_ = draw.choice(["was", "is", "was", "looks", "seemed", "has been"])
    form = draw.randrange(9)
    if form == 0:
        return f"what a {word} {thing}"
    if form == 1:
        return f"i {draw.choice(LIKE if good else DISLIKE)} {whose} {thing}"
    if form == 2:
        return f"{whose} {thing} {draw.choice(WENT_WELL if good else WENT_WRONG)}"
    if form == 3:  # the opposite, denied
        other = draw.choice(BAD if good else GOOD)
        return f"{whose} {thing} {draw.choice(['was not', 'is not', 'was never', 'is far from'])} {very}{other}"
    if form == 4:
        return f"{draw.choice(['a', 'such a', 'truly a', 'it was a', 'we had a'])} {word} {thing}"
    if form == 5:
        better = "better" if good else "worse"
        return f"{whose} {thing} {is_} {better} than {draw.choice(['i expected', 'we hoped', 'the last one', 'ever'])}"
    if form == 6:
        return f"{very}{word} {thing}"
    return f"{whose} {thing} {is_} {very}{word}"
