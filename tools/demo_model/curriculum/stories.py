"""The story planner: a cast, a wish, an obstacle, attempts, a turn and an ending, told in sentences.

A plot is a function that draws its plan from the lexicon and tells it beat by beat. While it tells, it
notes the facts a reader could be asked for, so every question has its answer in the text. Used by
`passages.py` (questions, summaries) and `__init__.py` (plain stories).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from . import lexicon as lex
from .lexicon import Lexicon
from .text import article, capitalized, counted, expand, listed, plural, with_article


# Lists of plain words that a wild word may stand in for without harm to the sentence.
_WILD_LISTS = [lex.ANIMALS, lex.PEOPLE, lex.PLACES, lex.THINGS, lex.TOOLS, lex.FOODS, lex.TRAITS, lex.COLOURS,
               lex.CLOTHES, lex.COUNTABLES]


@dataclass
class Fact:
    """Questions that mean the same, and their one short answer."""

    questions: list[str]
    answer: str


@dataclass
class Story:
    title: str
    paragraphs: list[str]
    facts: list[Fact]
    summary: str
    topic: str  # what a request for this story would name, e.g. `a brave fox and a red kite`
    hero: str
    hero_kind: str

    @property
    def text(self) -> str:
        return "\n\n".join(self.paragraphs)


@dataclass
class Character:
    """A person or an animal; `intro` is how the story first names it, `ref` how it does later."""

    name: str
    kind: str
    trait: str
    feminine: bool
    named: bool = True
    intro: str = ""
    ref: str = ""

    @property
    def answer(self) -> str:
        """How a reader would name this character."""
        return self.name if self.named else self.intro


@dataclass
class Teller:
    """Writes one story: draws words without repeating one, says sentences, notes facts."""

    rng: random.Random
    lexicon: Lexicon
    slots: dict[str, str] = field(default_factory=dict)
    paragraphs: list[str] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    sentences: list[str] = field(default_factory=list)

    def draw(self, values: list[str]) -> str:
        """A word that this story has not drawn yet."""
        for _ in range(20):
            word = self.rng.choice(values)
            if self.lexicon.wild and values in _WILD_LISTS and self.rng.random() < self.lexicon.wild:
                word = self.lexicon.wild_word()
            if word not in self.used:
                break
        self.used.add(word)
        return word

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def fill(self, template: str) -> str:
        """Writes out a phrase."""
        return expand(template, self.rng, self.slots)

    def write(self, template: str) -> str:
        """Writes out a sentence."""
        return capitalized(expand(template, self.rng, self.slots))

    def say(self, *templates: str) -> None:
        """Adds one of `templates`, written out, to the paragraph."""
        self.sentences.append(self.write(self.rng.choice(templates)))

    def paragraph(self) -> None:
        """Ends the paragraph."""
        if self.sentences:
            self.paragraphs.append(" ".join(self.sentences))
            self.sentences = []

    def note(self, answer: str, *questions: str) -> None:
        """Records a fact."""
        self.facts.append(Fact([self.write(question) for question in questions], self.fill(answer)))

    def character(self, role: str, named: float = 1.0, animal: float = 0.4) -> Character:
        """Draws a character and fills the slots `role`, `role_intro`, `role_kind`, `role_he`, ..."""
        rng = self.rng
        feminine = rng.random() < 0.5
        is_animal = rng.random() < animal
        if is_animal:
            kind = self.draw(lex.ANIMALS)
            name = (self.lexicon.animal_name() if rng.random() < 0.5
                    else self.lexicon.name(feminine))
        else:
            kind = "girl" if feminine else "boy"
            if role != "hero" or rng.random() < 0.25:
                kind = self.draw(lex.PEOPLE)
                feminine = {"king": False, "prince": False, "wizard": False, "postman": False,
                            "queen": True, "princess": True, "witch": True,
                            "mermaid": True, "fairy": True}.get(kind, feminine)
            name = self.lexicon.name(feminine)
        while name in self.used:
            name = self.lexicon.name(feminine)
        self.used.add(name)
        trait = self.draw(lex.TRAITS if role == "hero" else lex.HELPER_ADJECTIVES)
        is_named = rng.random() < named
        if is_named:
            link = rng.choice(("named", "called", "whose name was"))
            intro = f"{with_article(trait)} {kind} {link} {name}"
        else:
            intro = f"{with_article(trait)} {kind}"
        ref = name if is_named else f"the {kind}"
        person = Character(name, kind, trait, feminine, is_named, intro, ref)
        he, him, his = ("she", "her", "her") if feminine else ("he", "him", "his")
        prefix = "" if role == "hero" else role + "_"
        self.slots.update({role: ref, role + "_intro": intro, role + "_kind": kind,
                           role + "_trait": trait, prefix + "he": he, prefix + "him": him,
                           prefix + "his": his})
        return person


def _open(t: Teller, hero: Character) -> None:
    """Says who and where, with a few of many small details that can be asked for."""
    rng, s = t.rng, t.slots
    s["home"] = with_article(t.draw(lex.HOMES))
    s["spot"] = t.draw(lex.HOME_SPOTS)
    t.say("<Once upon a time|Long ago|Once|Many years ago>, there <was|lived> {hero_intro}.",
          "There once was {hero_intro}.", "Once upon a time, there lived {hero_intro}.",
          "<In a faraway land|Not so long ago|In the old days>, there lived {hero_intro}.",
          "This is the story of {hero_intro}.")
    t.say("{hero} lived in {home} {spot}.", "{hero}'s home was {home} {spot}.",
          "{he} lived in {home} {spot}.")
    t.note("{home}", "What kind of home did {hero} live in?", "What did {hero} live in?")
    t.note("{spot}", "Where <was|stood> {hero}'s home?", "Where was the home of {hero}?")
    t.note(hero.trait, "What was {hero} like?", "Which word tells what {hero} was like?")
    if hero.kind not in ("girl", "boy"):
        t.note(with_article(hero.kind), "What was {hero}?", "Who or what was {hero}?")
    for detail in rng.sample(_DETAILS, rng.choice((0, 1, 1, 2, 2, 3))):
        detail(t)


def _pets(t: Teller) -> None:
    count = t.rng.randint(2, 12)
    pet, colour = t.draw(lex.PETS), t.draw(lex.COLOURS)
    t.slots.update(pet_count=lex.NUMBER_WORDS[count], pet=plural(pet), pet_colour=colour)
    t.say("{he} <had|kept|looked after> {pet_count} {pet_colour} {pet}.",
          "Every <morning|evening> {hero} fed {his} {pet_count} {pet_colour} {pet}.")
    t.note("{pet_count}", "How many {pet} did {hero} have?", "What was the number of {pet}?")
    t.note("{pet_colour}", "What colour were the {pet}?", "Which colour did the {pet} have?")


def _clothes(t: Teller) -> None:
    t.slots.update(cloth=t.draw(lex.CLOTHES), cloth_colour=t.draw(lex.COLOURS))
    t.say("{he} always wore a(n) {cloth_colour} {cloth}.",
          "<Everyone|People> knew {hero} by {his} {cloth_colour} {cloth}.",
          "In <all kinds of weather|summer and winter>, {he} wore a(n) {cloth_colour} {cloth}.")
    t.note("{cloth_colour}", "What colour was {hero}'s {cloth}?",
           "Which colour did {hero}'s {cloth} have?")
    t.note("a(n) {cloth_colour} {cloth}", "What did {hero} wear?", "What did {hero} have on?")


def _meal(t: Teller) -> None:
    foods = [t.draw(lex.FOODS), t.draw(lex.FOODS)]
    t.slots.update(food=listed(foods))
    t.say("{his} favourite <meal|supper|breakfast> was {food}.",
          "Nothing tasted better to {him} than {food}.",
          "{he} <ate|had> {food} every day.")
    t.note("{food}", "What did {hero} like to eat?", "Which food did {hero} eat?")


def _sibling(t: Teller) -> None:
    feminine = t.chance(0.5)
    name = t.lexicon.name(feminine)
    while name in t.used:
        name = t.lexicon.name(feminine)
    t.used.add(name)
    t.slots.update(sibling=name, kin="sister" if feminine else "brother")
    t.say("{he} had a(n) <little|big|younger|older> {kin} <called|named> {sibling}.",
          "{his} {kin} {sibling} lived <there|with {him}> too.")
    t.note("{sibling}", "What was the name of {hero}'s {kin}?", "Who was {hero}'s {kin}?")


def _age(t: Teller) -> None:
    grown_up = t.slots["hero_kind"] in lex.PEOPLE
    t.slots["age"] = (t.draw(GROWN_UP_AGES) if grown_up
                      else lex.NUMBER_WORDS[t.rng.randint(3, 16)])
    t.say("{hero} was {age} years old.", "{he} had just turned {age}.")
    t.note("{age}", "How old was {hero}?", "What was {hero}'s age?")


GROWN_UP_AGES = lex.words("twenty thirty forty fifty sixty seventy eighty ninety")


def _hobby(t: Teller) -> None:
    t.slots["hobby"] = t.draw(lex.HOBBIES)
    t.say("{he} loved {hobby} more than anything.", "In {his} free time {he} liked {hobby}.",
          "{he} was very fond of {hobby}.")
    t.note("{hobby}", "What did {hero} love doing?", "What did {hero} like to do?")


_DETAILS = [_pets, _clothes, _meal, _sibling, _age, _hobby]


def _one_day(t: Teller) -> None:
    """Opens the action with a time that can be asked for."""
    season, part = t.draw(lex.SEASONS), t.draw(lex.DAY_PARTS)
    weather, day = t.draw(lex.WEATHERS), t.draw(lex.DAYS)
    t.slots.update(season=season, part=part, weather=weather, day=day)
    t.paragraph()
    kind = t.rng.randrange(3)
    if kind == 0:
        t.slots["when"] = f"one {weather} {part}"
        t.note("{weather}", "What was the weather like?", "What kind of {part} was it?")
    elif kind == 1:
        t.slots["when"] = f"on a {weather} {day}"
        t.note("{day}", "On which day did it <happen|begin>?", "Which day was it?")
    else:
        t.slots["when"] = f"one {season} {part}"
        t.note("{season}", "In which season does the story take place?", "What season was it?")


def _thing(t: Teller, role: str = "thing") -> None:
    thing, colour = t.draw(lex.THINGS), t.draw(lex.COLOURS)
    t.slots.update({role: thing, role + "_colour": colour,
                    "a_" + role: f"{article(colour)} {colour} {thing}",
                    "the_" + role: f"the {colour} {thing}"})


def _meet_helper(t: Teller) -> Character:
    """A kindness on the way, and its reward."""
    helper = t.character("helper", named=0.5, animal=0.5)
    t.slots["meeting"] = t.draw(lex.PLACES)
    t.slots["tool"] = t.draw(lex.TOOLS)
    t.slots["a_tool"] = with_article(t.slots["tool"])
    t.slots["meal"] = t.draw(lex.FOODS)
    t.paragraph()
    t.say("<Near|Beside|Not far from> the {meeting}, {he} met {helper_intro}.",
          "Then {he} <met|saw|came upon> {helper_intro} <near|beside> the {meeting}.",
          "At the {meeting} sat {helper_intro}.")
    if t.chance(0.6):
        t.say("{helper} was <hungry|very hungry>, so {hero} shared {his} {meal}.",
              "\"Please, could you spare <a little|some> food?\" asked {helper}. {hero} gave "
              "{helper_him} some {meal}.",
              "{helper} looked <cold and hungry|hungry and tired>, and {hero} gave {helper_him} {meal}.")
        t.note("{meal}", "What food did {hero} give {helper}?", "What did {hero} give {helper} to eat?")
    t.say("\"<Why are you so {low_mood}?|What is the matter?|What troubles you?>\" asked {helper}. "
          "{hero} <told {helper_him} everything|explained what had happened|told the whole story>.",
          "{hero} told {helper} <about {his} trouble|what had gone wrong>.",
          "\"You look {low_mood},\" said {helper}. \"<Perhaps I can help|Let me help you|"
          "Tell me about it>.\"")
    t.say("{helper} <thought for a moment|nodded|smiled|scratched {helper_his} head> and gave {him} {a_tool}.",
          "\"Take {a_tool},\" said {helper}. \"<You will need it|It will help you|Use it well>.\"",
          "So {helper} lent {him} {a_tool}.")
    t.note(helper.answer, "Who helped {hero}?", "Who gave {hero} {a_tool}?",
           "Whom did {hero} meet near the {meeting}?")
    t.note("{a_tool}", "What did {helper} give {hero}?", "What did {hero} get from {helper}?")
    t.note("the {meeting}", "Where did {hero} meet {helper}?", "Near which place was {helper}?")
    return helper


def _end(t: Teller) -> None:
    """The feeling, sometimes a feast, and what was learned."""
    mood, lesson = t.draw(lex.MOODS), t.draw(lex.LESSONS)
    t.slots.update(mood=mood, lesson=lesson)
    t.say("{hero} <was|felt> {mood} <at last|that evening|all the way home|again>.",
          "That night {hero} went to bed feeling {mood}.",
          "How {mood} {hero} <was|felt>!",
          "\"I have never been so {mood},\" said {hero}.")
    t.note("{mood}", "How did {hero} feel at the end?", "How did {hero} feel when it was over?")
    if t.chance(0.6):
        t.say("{he} had learned {lesson}.", "From that day on, {hero} remembered {lesson}.",
              "And {he} never forgot {lesson}.")
        t.note("{lesson}", "What did {hero} learn?", "What <lesson|thing> did {hero} learn?")
    if t.chance(0.4):
        t.say("And they all lived happily <ever after|for many years>.",
              "<People|The neighbours|Children> still tell the story today.",
              "And that is <the end of the story|how it happened>.")
    t.paragraph()


def _finish(t: Teller, title: str, summary: str, topic: str) -> Story:
    t.paragraph()
    return Story(t.write(title), t.paragraphs, t.facts, t.write(summary), t.fill(topic),
                 t.slots["hero"], t.slots["hero_kind"])


def _begin(t: Teller) -> Character:
    hero = t.character("hero")
    t.slots["low_mood"] = t.draw(lex.LOW_MOODS)
    _open(t, hero)
    return hero


def quest(t: Teller) -> Story:
    """The hero wants a thing that lies beyond an obstacle."""
    _begin(t)
    _thing(t)
    t.slots.update(place=t.draw(lex.PLACES), obstacle=t.draw(lex.OBSTACLES))
    t.slots["reason"] = t.fill(t.draw(lex.REASONS))
    _one_day(t)
    t.say("{when}, {hero} heard of {a_thing} <hidden|kept|lying> near the {place}.",
          "{when}, a <sailor|pedlar|neighbour|stranger> told {hero} about {a_thing} near the {place}.")
    t.say("{he} wanted it {reason}.", "\"I must have it,\" said {hero}, who wanted it {reason}.",
          "{hero} <dreamed|thought> of nothing else, for {he} wanted it {reason}.")
    t.note("{a_thing}", "What did {hero} want?", "What did {hero} <look|search> for?")
    t.note("{thing_colour}", "What colour was the {thing}?")
    t.note("near the {place}", "Where was the {thing}?", "Where was {the_thing} <hidden|to be found>?")
    t.note("{reason}", "Why did {hero} want the {thing}?", "For what reason did {hero} want {the_thing}?")
    t.slots["snack"] = t.draw(lex.FOODS)
    t.say("So {he} packed some {snack} and <set out|went off> <before sunrise|at once|the next day>.",
          "{he} put on {his} boots and <set out|walked off|went> <at once|straight away|without delay>.")
    t.paragraph()
    t.say("But on the way there was {obstacle}.", "Soon {hero} came to {obstacle} and could not go on.",
          "Halfway there, {obstacle} <blocked|barred> the <path|road|way>.")
    t.note("{obstacle}", "What was in {hero}'s way?", "What blocked the way?",
           "What <stopped|held up> {hero}?")
    count = t.rng.randint(2, 5)
    t.slots["tries"] = lex.NUMBER_WORDS[count]
    t.say("{he} tried {tries} times to get past, but it was no use.",
          "{tries} times {he} tried, and {tries} times {he} failed.",
          "{hero} tried to go around it {tries} times, but always came back to the same spot.")
    t.note("{tries}", "How many times did {hero} try?", "How often did {hero} try to get past?")
    t.say("{he} sat down on a <stone|log> and felt {low_mood}.", "{hero} <was|grew> {low_mood}.",
          "\"What shall I do?\" {he} <sighed|whispered|cried>. {he} felt {low_mood}.")
    _meet_helper(t)
    t.paragraph()
    t.say("With the {tool}, {hero} <got past|found a way past|overcame> {obstacle} <at last|in no time>.",
          "The {tool} was just what {he} needed, and soon {hero} was on the other side.")
    t.say("Near the {place} {he} found {the_thing}, <shining in the light|just as {he} had hoped|"
          "covered with dust>.",
          "And there, near the {place}, <lay|was> {the_thing}.")
    _end(t)
    return _finish(t, "{hero} and the {thing_colour} {thing}",
                   "{hero} wanted {a_thing} but {obstacle} was in the way, until {helper} helped with "
                   "{a_tool}.", "a(n) {hero_trait} {hero_kind} who looks for {a_thing}")


def lost(t: Teller) -> Story:
    """Something dear is lost, searched for and found."""
    _begin(t)
    _thing(t)
    places = [t.draw(lex.PLACES) for _ in range(3)]
    t.slots.update(first=places[0], second=places[1], hiding=t.draw(lex.HIDING_PLACES))
    t.slots["giver"] = t.rng.choice(("grandmother", "grandfather", "mother", "father", "aunt", "uncle"))
    _one_day(t)
    t.say("{hero} had {a_thing}, a <gift|present> from {his} {giver}.",
          "{his} {giver} had given {him} {a_thing}, and {he} <loved it|carried it everywhere>.")
    t.note("{giver}", "Who had given {hero} the {thing}?", "From whom did {hero} get {the_thing}?")
    t.say("{when}, it was gone.", "{when}, {he} <reached for it|looked for it>, and it was gone!",
          "But {when}, {hero} could not find it anywhere.")
    t.note("{a_thing}", "What did {hero} lose?", "What was <lost|missing>?")
    t.note("{thing_colour}", "What colour was the {thing}?")
    t.say("{hero} was very {low_mood}.", "\"Oh no!\" cried {hero}, and {he} felt {low_mood}.",
          "{he} felt so {low_mood} that {he} <could not eat|sat down and wept|could hardly speak>.")
    t.note("{low_mood}", "How did {hero} feel when the {thing} was gone?",
           "How did {hero} feel about the lost {thing}?")
    t.paragraph()
    t.say("First {he} searched the {first}, but it was not there.",
          "{he} <ran|went|hurried> to the {first} first, but found nothing.")
    t.say("Then {he} searched the {second}. <Nothing!|It was not there either.>",
          "After that {he} tried the {second}, but <found only dust|it was not there>.")
    t.note("the {first}", "Where did {hero} look first?", "In which place did {hero} search first?")
    t.note("the {second}", "Where did {hero} look second?",
           "Where did {hero} look after the {first}?")
    helper = t.character("helper", named=0.5, animal=0.6)
    t.paragraph()
    t.say("On the way home {hero} met {helper_intro}.", "Just then {helper_intro} came by.",
          "At that moment {helper_intro} <looked over the fence|stopped beside {him}>.")
    t.say("\"I <have seen|saw> something {thing_colour} {hiding},\" said {helper}.",
          "\"<Have you looked|Did you look> {hiding}?\" asked {helper}.",
          "\"Look {hiding},\" said {helper} <kindly|quietly|with a smile>.")
    t.note(helper.answer, "Who helped {hero}?", "Who told {hero} where to look?")
    t.say("{hero} ran to look, and there was the {thing}!",
          "{he} looked there, and <indeed|sure enough>, there it was.")
    t.note("{hiding}", "Where was the {thing}?", "Where did {hero} find the {thing}?")
    t.slots["thanks"] = t.draw(lex.FOODS)
    t.say("{hero} thanked {helper} with <some|a plate of|a basket of> {thanks}.",
          "\"Thank you, thank you!\" cried {hero}, and shared {his} {thanks} with {helper}.")
    t.note("{thanks}", "With what did {hero} thank {helper}?", "What did {hero} share with {helper}?")
    _end(t)
    return _finish(t, "the lost {thing}",
                   "{hero} lost {a_thing}, searched the {first} and the {second}, and found it "
                   "{hiding} with the help of {helper}.",
                   "a(n) {hero_trait} {hero_kind} who loses {a_thing}")


def making(t: Teller) -> Story:
    """A feast is planned, something is missing, a trade saves it."""
    _begin(t)
    item = t.draw(lex.COUNTABLES)
    price = t.draw(lex.COUNTABLES)
    count, price_count = t.rng.randint(2, 20), t.rng.randint(2, 12)
    t.slots.update(feast=t.draw(lex.FEASTS), dish=t.draw(DISHES), item=plural(item),
                   count=lex.NUMBER_WORDS[count], price=plural(price),
                   price_count=lex.NUMBER_WORDS[price_count], shop=t.draw(lex.PLACES))
    _one_day(t)
    t.say("{when}, {hero} wanted to make {dish} for the {feast}.",
          "{when}, everyone was getting ready for the {feast}, and {hero} promised to make {dish}.",
          "The {feast} was near. {when}, {hero} decided to make {dish} for it.")
    t.slots["bare_dish"] = t.slots["dish"].split(" ", 1)[1]
    t.note("{dish}", "What did {hero} want to make?", "What did {hero} make?")
    t.note("the {feast}", "What was {hero} getting ready for?", "For which feast was the {bare_dish}?")
    t.say("{he} needed {count} {item}, but there were none <left|in the house|to be found>.",
          "\"I need {count} {item},\" {he} said, \"and I have none!\"")
    t.note("{count} {item}", "What did {hero} need?", "What was missing?")
    t.note("{count}", "How many {item} did {hero} need?")
    helper = t.character("helper", named=0.6, animal=0.4)
    t.paragraph()
    t.say("So {he} went to the {shop}, where {he} found {helper_intro}.",
          "{hero} hurried to the {shop} and met {helper_intro} there.")
    t.note("the {shop}", "Where did {hero} go?", "Where did {hero} meet {helper}?")
    t.say("\"I will give you {count} {item} for {price_count} {price},\" said {helper}.",
          "\"You may have {count} {item},\" said {helper}, \"if you bring me {price_count} {price}.\"")
    t.note("{price_count} {price}", "What did {helper} want for the {item}?",
           "What did {helper} ask for in return?")
    t.note("{price_count}", "How many {price} did {helper} want?")
    t.note(helper.answer, "Who had the {item}?", "Who gave {hero} the {item}?")
    t.say("{hero} <ran home|searched every corner|worked all day> and <came back with|brought> the {price}.",
          "It took {him} all <morning|day>, but {hero} brought the {price} at last.",
          "\"That is fair,\" said {hero}, and {he} fetched the {price}.")
    t.say("They <traded|shook hands>, and {he} carried the {item} home <carefully|in a basket|with a song>.",
          "{helper} counted them and <smiled|nodded>. \"A trade is a trade,\" {helper_he} said.")
    t.paragraph()
    t.say("{hero} <worked until dark|set to work at once|rolled up {his} sleeves>, and soon {dish} stood on the "
          "table.",
          "By evening {dish} was ready.")
    t.say("<All the guests|Everyone at the {feast}> wanted <a second helping|some more>.",
          "\"<Delicious!|How lovely!|The best ever!>\" said the guests.",
          "{hero} invited {helper} too, and they <danced|laughed|sang> until midnight.")
    _end(t)
    return _finish(t, "{hero} and the {feast}",
                   "{hero} needed {count} {item} to make {dish} for the {feast} and got them from {helper} "
                   "for {price_count} {price}.",
                   "a(n) {hero_trait} {hero_kind} who makes {dish} for a {feast}")


DISHES = lex.words("""
    an_apple_pie a_honey_cake a_pot_of_soup a_plum_tart a_pumpkin_stew a_paper_dragon a_flower_crown
    a_patchwork_quilt a_giant_pancake a_berry_pudding a_lantern_tree a_wooden_horse a_cheese_bread
    a_nut_cake a_long_garland a_chocolate_cake a_carrot_cake a_kite_with_a_long_tail a_lemon_tart
    a_mushroom_pie a_little_theatre a_snow_castle""")


def rescue(t: Teller) -> Story:
    """A friend is stuck, the hero finds the means."""
    _begin(t)
    friend = t.character("friend", named=1.0, animal=0.6)
    t.slots.update(trap=t.draw(TRAPS), place=t.draw(lex.PLACES))
    _one_day(t)
    t.say("{when}, {hero} was walking <through|past> the {place} when {he} heard a <cry|voice|shout>.",
          "{when}, a <cry|small voice> came from the {place}, and {hero} <stopped to listen|ran to see>.")
    t.note("the {place}", "Where did {hero} hear the <cry|voice>?", "Where was {hero} when it happened?")
    t.say("It was {friend_intro}, stuck {trap}.", "There, stuck {trap}, was {friend_intro}.")
    t.note("{friend}", "Who was stuck?", "Who needed help?", "Whom did {hero} <save|rescue>?")
    t.note("{trap}", "Where was {friend} stuck?")
    t.say("\"<Help!|Please help me!|Get me out!>\" cried {friend}. \"I have been here since "
          "<breakfast|sunrise|yesterday|noon|last night>.\"",
          "\"Do not be afraid,\" said {hero}. \"I will <get you out|think of something|find a way>.\"")
    first = t.draw(lex.TOOLS)
    t.slots["failed"] = with_article(first)
    t.paragraph()
    t.say("First {hero} tried with {failed}, but it was too <short|weak|small|heavy>.",
          "{he} <found|fetched> {failed}, but that <did not work|was no good>.")
    t.note("{failed}", "What did {hero} try first?", "What did not work?")
    helper = _meet_helper(t)
    t.paragraph()
    t.say("{hero} hurried back with the {tool}. <Slowly|Carefully|Little by little>, {friend} came free.",
          "With the {tool} it was easy, and {friend} was soon free.",
          "{hero} and {helper} used the {tool} together, and out came {friend}.")
    t.note("{a_tool}", "With what was {friend} freed?", "What was used to get {friend} out?")
    _thing(t, "gift")
    t.say("{friend} gave {hero} {a_gift} <as thanks|to say thank you|as a reward>.",
          "\"This is for you,\" said {friend}, and gave {him} {a_gift}.")
    t.note("{a_gift}", "What did {friend} give {hero}?", "What was the reward?")
    _end(t)
    return _finish(t, "how {hero} saved {friend}",
                   "{friend} was stuck {trap}, and {hero} got {friend_him} out with {a_tool} from {helper}.",
                   "a(n) {hero_trait} {hero_kind} who saves a(n) {friend_kind}")


TRAPS = lex.words("""
    in_a_deep_pit at_the_top_of_a_tall_tree under_a_fallen_branch in_a_fishing_net in_the_mud
    on_a_narrow_ledge in_an_old_well behind_a_locked_door in_a_thorn_bush on_a_drifting_raft
    in_a_hollow_log between_two_rocks on_the_roof in_a_deep_snowdrift inside_a_barrel
    on_a_little_island""")


def contest(t: Teller) -> Story:
    """A contest, a rival, and a prize."""
    _begin(t)
    name = t.draw(list(lex.CONTESTS))
    t.slots.update(contest=name, goal=lex.CONTESTS[name], month=t.draw(lex.MONTHS),
                   place=t.draw(lex.PLACES), days=lex.NUMBER_WORDS[t.rng.randint(2, 14)])
    _thing(t, "prize")
    rival = t.character("rival", named=1.0, animal=0.4)
    t.paragraph()
    t.say("Every {month} there was a {contest} at the {place}.",
          "In {month} a {contest} was held at the {place}.")
    t.note("{month}", "In which month was the {contest}?", "When was the {contest} held?")
    t.note("at the {place}", "Where was the {contest} held?", "Where did the {contest} take place?")
    t.say("The winner would get {a_prize}.", "The prize was {a_prize}.")
    t.note("{a_prize}", "What was the prize?", "What would the winner get?")
    t.note("{prize_colour}", "What colour was the {prize}?")
    t.say("{hero} wanted to {goal}.", "\"This year I will {goal},\" said {hero}.")
    t.note("to {goal}", "What did {hero} want to do?", "What was {hero}'s <wish|aim>?")
    t.say("But {rival_intro} <had won every year|laughed at {him}|was very good at it too>.",
          "{his} rival was {rival_intro}, who <never lost|boasted all day long>.")
    t.note(rival.answer, "Who was {hero}'s rival?", "Against whom did {hero} compete?")
    t.paragraph()
    t.say("For {days} days {hero} practised <from morning till night|behind the house|whenever {he} could>.",
          "{hero} worked hard for {days} days.")
    t.note("{days}", "For how many days did {hero} practise?", "How many days did {hero} get ready?")
    t.say("{rival} only <slept in the sun|boasted|played tricks>.",
          "\"You will never <win|beat me>,\" said {rival}. {hero} <said nothing|only smiled>.")
    wins = t.chance(0.65)
    t.paragraph()
    t.say("At last the great day came, and the whole <village|valley|town> <was watching|came to see>.",
          "On the day of the {contest} the <crowd cheered|drums rolled|flags were flying>.")
    if wins:
        t.say("{hero} did {his} very best and won the {prize}!",
              "When it was over, the judges called {hero}'s name, and {he} won.")
        t.slots["winner"] = t.slots["hero"]
        t.say("{rival} <shook {his} hand|bowed|smiled in spite of it>. \"Well done,\" {rival_he} said.",
              "Even {rival} had to clap.")
    else:
        t.say("{hero} did {his} best, but {rival} won the {prize}.",
              "It was close, but in the end {rival} was better and won.")
        t.slots["winner"] = t.slots["rival"]
        t.say("\"Will you teach me?\" asked {hero}, and {rival} <said yes|nodded>. They became friends.",
              "{hero} was the first to <clap|say well done>, and everyone liked {him} for it.")
    t.note("{winner}", "Who won?", "Who won the {contest}?", "Who got the {prize}?")
    _end(t)
    return _finish(t, "the {contest}",
                   "{hero} practised for {days} days to {goal}, and in the end {winner} won the {contest}.",
                   "a(n) {hero_trait} {hero_kind} in a {contest}")


def fear(t: Teller) -> Story:
    """The hero faces a fear because somebody needs it."""
    _begin(t)
    t.slots.update(fear=t.draw(lex.FEARS), place=t.draw(lex.PLACES), hiding=t.draw(lex.HIDING_PLACES))
    friend = t.character("friend", named=1.0, animal=0.3)
    t.say("There was one thing {hero} <did not like|could not bear>: {he} was afraid of {fear}.",
          "But {hero} was afraid of {fear}.", "Nobody knew it, but {fear} frightened {him} terribly.")
    t.note("{fear}", "What was {hero} afraid of?", "What frightened {hero}?")
    _one_day(t)
    t.say("{when}, {his} friend {friend} did not come home from the {place}.",
          "{when}, {friend}, {his} best friend, was lost near the {place}.")
    t.note("{friend}", "Who did not come home?", "Who was {hero}'s friend?", "Who was lost?")
    t.note("the {place}", "Where had {friend} gone?", "Near which place was {friend}?")
    t.say("Somebody had to go, and everyone else was <asleep|away|too old>.",
          "{hero}'s knees were shaking, but {he} <thought of {friend}|took a deep breath>.")
    helper = t.character("helper", named=0.6, animal=0.4)
    t.slots["advice"] = t.draw(ADVICE)
    t.paragraph()
    t.say("At the door stood {helper_intro}.", "On the way {he} met {helper_intro}.")
    t.say("\"{advice},\" said {helper}.", "\"Remember this,\" said {helper}. \"{advice}.\"")
    t.slots["advice"] = t.slots["advice"][0].lower() + t.slots["advice"][1:]
    t.note(helper.answer, "Who gave {hero} advice?", "Who told {hero} what to do?")
    t.note("{advice}", "What did {helper} tell {hero} to do?", "What was {helper}'s advice?")
    t.say("{hero} did just that, and <step by step|little by little> {he} <went on|became braver>.",
          "So {he} did, and the fear grew <smaller and smaller|as small as a pea>.")
    t.paragraph()
    t.say("At the {place} {he} found {friend}, <cold but safe|who had hurt a foot|fast asleep>.",
          "And there was {friend}, <waiting and shivering|waving both arms|glad to see {him}>.")
    t.say("They walked home together, <singing|hand in hand|laughing all the way>.",
          "\"You came!\" said {friend}. \"<Of course I came|What are friends for>,\" said {hero}.")
    _end(t)
    return _finish(t, "{hero} is not afraid",
                   "{hero} was afraid of {fear}, but went to the {place} to find {friend} and became brave "
                   "with advice from {helper}.",
                   "a(n) {hero_trait} {hero_kind} who is afraid of {fear}")


ADVICE = [phrase.capitalize() for phrase in lex.words("""
    count_your_steps sing_a_little_song breathe_slowly look_at_the_stars think_of_something_funny
    hold_this_stone_tight whistle_as_loud_as_you_can take_one_step_at_a_time close_your_eyes_and_listen
    keep_your_eyes_on_the_light say_your_own_name_aloud carry_a_warm_potato_in_your_pocket""")]


def mystery(t: Teller) -> Story:
    """A strange sign each night has a small and friendly cause."""
    _begin(t)
    t.slots.update(sign=t.draw(SIGNS), place=t.draw(lex.PLACES),
                   nights=lex.NUMBER_WORDS[t.rng.randint(2, 9)], food_left=t.draw(lex.FOODS))
    _one_day(t)
    t.say("{when}, {hero} noticed {sign} near the {place}.",
          "{when}, there was {sign} near the {place}, and {hero} <wondered|could not sleep>.")
    t.note("{sign}", "What did {hero} notice?", "What was the strange thing?")
    t.note("the {place}", "Where was it?", "Near which place did {hero} notice {sign}?")
    t.say("It came back for {nights} nights.", "For {nights} nights it was the same.")
    t.note("{nights}", "For how many nights did it go on?", "How many nights did it come back?")
    t.say("The neighbours said it was a <ghost|dragon|thief|witch>, but {hero} did not believe it.",
          "\"I want to know what it is,\" said {hero}.")
    t.slots["wrong"] = t.draw(lex.ANIMALS)
    t.paragraph()
    t.say("{he} hid <behind a bush|under a blanket|in a barrel> and put out some {food_left}.",
          "So {he} left a bowl of {food_left} outside and waited.")
    t.note("{food_left}", "What food did {hero} put out?", "What did {hero} leave outside?")
    guest = t.character("guest", named=0.6, animal=1.0)
    t.slots["cause"] = t.draw(CAUSES)
    t.say("At midnight {he} saw {guest_intro}.", "Out of the dark came {guest_intro}.")
    t.note(guest.answer, "Who had done it?", "Who came at <night|midnight>?", "Whom did {hero} see?")
    t.say("\"I am sorry,\" said {guest}. \"I {cause}.\"",
          "{guest} <hung {guest_his} head|looked ashamed>. \"I {cause},\" came the answer.")
    t.slots["her_cause"] = t.slots["cause"].replace("my", t.slots["guest_his"])
    t.note("{guest_he} {her_cause}", "Why did {guest} come?", "What was {guest}'s reason?")
    t.say("{hero} laughed. \"Then <you must stay with me|come and live with us|let us be friends>!\"",
          "\"Is that all?\" asked {hero}. \"<I will help you|You can stay here>.\"")
    _end(t)
    return _finish(t, "the secret of the {place}",
                   "{hero} noticed {sign} near the {place} and found out that it was {guest}.",
                   "a(n) {hero_trait} {hero_kind} who finds out a secret")


SIGNS = lex.words("""
    a_strange_light a_soft_knocking a_wet_footprint a_sad_song an_odd_smell a_trail_of_crumbs
    a_low_humming an_empty_nest a_blue_glow a_tiny_scratching a_quiet_laugh a_ringing_of_bells
    a_muddy_pawprint a_pile_of_nutshells""")
CAUSES = lex.words("""
    had_lost_my_way was_looking_for_my_mother was_hungry_and_cold could_not_find_my_nest
    was_learning_to_dance wanted_a_friend had_broken_my_wing was_afraid_of_the_storm
    was_hiding_from_the_hunter wanted_to_read_by_the_lamp missed_my_brothers had_nowhere_to_sleep""")


def trade(t: Teller) -> Story:
    """A chain of swaps: each step has a partner, a thing given and a thing got."""
    _begin(t)
    things: list[tuple[str, str]] = []
    for index in range(t.rng.choice((3, 3, 4))):
        thing, colour = t.draw(lex.THINGS), t.draw(lex.COLOURS)
        things.append((thing, f"{article(colour)} {colour} {thing}"))
    t.slots.update(start=things[0][1], goal=things[-1][1], goal_bare=things[-1][0])
    _one_day(t)
    t.say("{when}, {hero} <went to market|set out> with {start} <in {his} bag|under {his} arm>.",
          "{when}, {hero} had nothing but {start}.")
    t.note("{start}", "What did {hero} have at the start?", "What did {hero} take along?")
    t.say("What {he} really wanted was {goal}.", "\"If only I had {goal}!\" {he} thought.")
    t.note("{goal}", "What did {hero} really want?", "What did {hero} wish for?")
    t.paragraph()
    for index in range(len(things) - 1):
        partner = t.character("partner", named=0.7, animal=0.4)
        given, got = things[index], things[index + 1]
        t.slots.update(given=given[0], got=got[1], got_bare=got[0])
        t.say("<First|At the corner|Soon> {he} met {partner_intro}, who gave {him} {got} for the {given}."
              if index == 0 else
              "<Then|Next|After that> {he} met {partner_intro}, who gave {him} {got} for the {given}.",
              "{partner_intro} came along and <swapped|exchanged> {got} for the {given}.")
        t.note(partner.answer, "Who gave {hero} the {got_bare}?", "From whom did {hero} get the {got_bare}?",
               "Who wanted the {given}?")
        t.note("{got}", "What did {hero} get for the {given}?",
               "What did {partner} give {hero}?")
        if t.chance(0.5):
            t.say("\"<A good trade|That suits us both|Just what I need>,\" said {partner}.",
                  "They were both <pleased|satisfied>.")
    t.slots["swaps"] = lex.NUMBER_WORDS[len(things) - 1]
    t.paragraph()
    t.say("So after {swaps} swaps {hero} had {goal} at last.",
          "{hero} had made {swaps} swaps, and now {he} held {goal} in {his} hands.")
    t.note("{swaps}", "How many swaps did {hero} make?", "How many times did {hero} swap something?")
    _end(t)
    return _finish(t, "{hero} makes a swap",
                   "{hero} started with {start} and, after {swaps} swaps, came home with {goal}.",
                   "a(n) {hero_trait} {hero_kind} who swaps {start} for {goal}")


def promise(t: Teller) -> Story:
    """A chore is promised, forgotten for something nicer, and put right."""
    _begin(t)
    chore, temptation = t.draw(lex.CHORES), t.draw(TEMPTATIONS)
    elder = t.character("elder", named=0.6, animal=0.2)
    t.slots.update(chore=chore, temptation=temptation, harm=t.draw(HARMS))
    _one_day(t)
    t.say("{when}, {elder_intro} asked {hero} to {chore}.",
          "{when}, {hero} promised {elder_intro} to {chore}.")
    t.note(elder.answer, "Who asked {hero} for help?", "To whom did {hero} make a promise?")
    t.note("to {chore}", "What did {hero} promise?", "What was {hero} asked to do?")
    t.say("\"You can trust me,\" said {hero}.", "\"I will not forget,\" {he} said.",
          "{hero} gave {his} word.")
    t.paragraph()
    t.say("But on the way {he} <saw|heard> {temptation} and forgot everything else.",
          "Then {temptation} caught {his} eye, and the promise slipped {his} mind.")
    t.note("{temptation}", "What made {hero} forget the promise?", "What did {hero} <see|notice> on the way?")
    t.slots["hours"] = lex.NUMBER_WORDS[t.rng.randint(2, 8)]
    t.say("{hours} hours went by.", "{he} stayed for {hours} hours.")
    t.note("{hours}", "How many hours went by?", "How long did {hero} stay, in hours?")
    t.say("When {hero} came back, {harm}.", "Meanwhile, {harm}.")
    t.note("{harm}", "What happened while {hero} was away?", "What went wrong?")
    t.say("{hero} felt {low_mood} and <hung {his} head|could not say a word>.",
          "\"It is my fault,\" said {hero}, who felt {low_mood}.")
    t.note("{low_mood}", "How did {hero} feel when {he} came back?", "How did {hero} feel about it?")
    helper = t.character("helper", named=0.7, animal=0.5)
    t.slots["repair"] = t.rng.choice(("worked all night", "worked side by side", "did not stop to rest",
                                      "put everything right", "worked until the moon rose"))
    t.paragraph()
    t.say("{helper_intro} offered to help, and together they {repair}.",
          "Luckily {helper_intro} came to help, and the two of them {repair}.")
    t.note(helper.answer, "Who helped {hero}?", "Who came to help?")
    t.say("In the morning {elder} saw it and forgave {him}.",
          "\"Everyone makes mistakes,\" said {elder}. \"You put it right, and that counts.\"")
    _end(t)
    return _finish(t, "a promise is a promise",
                   "{hero} promised {elder} to {chore} but forgot it because of {temptation}, and put it right "
                   "with {helper}.",
                   "a(n) {hero_trait} {hero_kind} who forgets a promise")


TEMPTATIONS = lex.words("""
    a_travelling_circus a_merry_band a_paper_boat_race a_dancing_bear a_puppet_show a_snowball_fight
    a_stall_full_of_sweets a_hot_air_balloon a_swarm_of_butterflies a_game_of_marbles a_juggler
    a_ship_with_red_sails a_street_full_of_kites""")
HARMS = lex.words("""
    the_goats_had_eaten_the_cabbages the_soup_had_burned the_river_had_carried_off_the_washing
    the_fire_had_gone_out the_wind_had_blown_the_roof_off_the_shed the_calf_had_run_away
    the_flowers_had_withered the_milk_had_turned_sour the_hens_were_loose_in_the_street
    the_bread_was_as_black_as_coal the_boat_had_drifted_away""")


def quarrel(t: Teller) -> Story:
    """Two friends want the same thing and learn to share it."""
    _begin(t)
    friend = t.character("friend", named=1.0, animal=0.4)
    _thing(t)
    t.slots.update(place=t.draw(lex.PLACES), accident=t.draw(ACCIDENTS), plan=t.draw(PLANS))
    _one_day(t)
    t.say("{when}, {hero} and {his} friend {friend} found {a_thing} near the {place}.",
          "{when}, {hero} and {friend} <dug up|discovered> {a_thing} near the {place}.")
    t.note("{friend}", "Who was {hero}'s friend?", "With whom did {hero} quarrel?")
    t.note("{a_thing}", "What did {hero} and {friend} find?", "What did the friends quarrel about?")
    t.note("{thing_colour}", "What colour was the {thing}?")
    t.note("the {place}", "Where did they find the {thing}?", "Near which place was the {thing}?")
    t.say("\"I saw it first!\" cried {hero}. \"No, I did!\" <shouted|answered> {friend}.",
          "\"It is mine!\" said {hero}. \"It is not!\" said {friend}.")
    t.say("They pulled and pulled until the {thing} {accident}.",
          "While they were quarrelling, the {thing} {accident}.")
    t.note("it {accident}", "What happened to the {thing}?")
    t.slots["silence"] = lex.NUMBER_WORDS[t.rng.randint(2, 10)]
    t.say("For {silence} days they did not speak to each other.",
          "{silence} days passed, and neither said a word to the other.")
    t.note("{silence}", "For how many days did they not speak?", "How many days did the quarrel last?")
    helper = t.character("helper", named=0.7, animal=0.4)
    t.paragraph()
    t.say("Then {helper_intro} <heard of the quarrel|came to tea|called them both>.",
          "It was {helper_intro} who <brought them together|ended the quarrel>.")
    t.say("\"{plan},\" said {helper}.", "\"I have an idea,\" said {helper}. \"{plan}.\"")
    t.note(helper.answer, "Who ended the quarrel?", "Who had an idea?", "Who helped the two friends?")
    t.say("{hero} looked at {friend}, and both began to <laugh|smile>.",
          "\"I am sorry,\" said {hero}. \"So am I,\" said {friend}.")
    t.say("<After that|From then on> they shared the {thing}, <day by day|turn by turn>.",
          "And so the {thing} belonged to both of them.")
    _end(t)
    return _finish(t, "two friends and one {thing}",
                   "{hero} and {friend} quarrelled about {a_thing} for {silence} days until {helper} helped "
                   "them to share it.",
                   "two friends who quarrel about {a_thing}")


ACCIDENTS = lex.words("""
    fell_into_the_mud broke_in_two rolled_down_the_hill fell_into_the_river was_carried_off_by_a_magpie
    got_stuck_in_a_tree landed_in_the_well was_covered_with_soot""")
PLANS = [phrase.capitalize() for phrase in lex.words("""
    mend_it_together take_turns,_one_day_each keep_it_where_both_can_see_it
    give_it_to_the_one_who_says_sorry_first build_a_little_house_for_it use_it_together_or_not_at_all
    let_the_whole_village_enjoy_it""")]

PLOTS: list[Callable[[Teller], Story]] = [
    quest, lost, making, rescue, contest, fear, mystery, trade, promise, quarrel]


def tell(rng: random.Random, lexicon: Lexicon) -> Story:
    """A new story: a plot drawn from `PLOTS`, planned and told."""
    return rng.choice(PLOTS)(Teller(rng, lexicon))
