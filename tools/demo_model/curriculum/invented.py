"""Tools that exist nowhere else, so that the model learns to read a signature instead of knowing it.

Renamed tools of the catalogue; mechanical ones, whose request says each parameter's name; and natural
ones, whose request leaves it to the reader what belongs where. Used by `tools.py`.
"""

import random
from dataclasses import replace

from . import lexicon as lex
from .catalogue import CATALOGUE, HELD_OUT_CATALOGUE, KINDS, Tool
from .lexicon import Lexicon
from .text import capitalized, plural, with_article

VERBS = lex.words("""
    find book cancel create delete check open close update send get list rent reserve start stop move
    print repair count collect order share track register schedule inspect archive renew announce label
    deliver measure record compare prepare review approve launch pause wash ring plant adopt feed watch
    clean paint sell buy lock call invite teach follow join build fix hide carry draw sing""")
NOUNS = lex.words("""
    ticket parcel order invoice meeting report room car boat bicycle garden lesson party delivery
    photo recipe project task visit appointment tour game account device machine kitchen festival
    workshop member locker shipment seat trip backup camera sensor garage poster survey budget
    membership stall ferry cabin printer team teacher plant flower field engine song picture
    competition class lecture exam window""") + lex.THINGS + lex.SHOP_ITEMS + lex.CLOTHES + lex.PLACES
# Parameter names, kind, and how a request mentions the value.
_MENTIONS = [
    ("city location place town destination", "city", "in {}|to {}|near {}"),
    ("name person customer owner guest client", "name", "for {}|with {}"),
    ("date start_date deadline", "date", "on {}|for {}"),
    ("day weekday", "day", "on {}|next {}"),
    ("time start_time hour", "time", "at {}|from {}"),
    ("id number code reference", "number", "number {}|with the {name} {}"),
    ("count quantity amount copies people", "small", "with {name} {}|{name} {}"),
    ("minutes duration hours days weeks", "small", "with {name} {}|and set {name} to {}"),
    ("color colour", "colour", "in {}|with the {name} {}"),
    ("language", "language", "in {}|with the {name} {}"),
    ("room", "room", "in the {}|for the {}"),
    ("title label", "title", "called {}|with the {name} {}"),
    ("note text comment message", "message", "with the {name} \"{}\"|and add the {name} \"{}\""),
    ("topic subject theme", "subject", "about {}|with the {name} {}"),
    ("item product", "item", "with the {name} {}|and take the {}"),
    ("food meal", "food", "with {}|and the {name} {}"),
    ("animal", "animal", "with the {}|for the {}"),
]


# A parameter may also have any noun for its name and any kind of value; the request then says its name.
_NAMED = "with the {name} {}|and the {name} {}|with {name} {}|, {name} {},|and {} as the {name}|using {} as {name}"
_COUNTED = "{} {many}|for {} {many}|with {} {many}"


def _parameter(rng: random.Random, lexicon: Lexicon) -> tuple[str, str, str]:
    """A parameter's name, its kind, and the phrase that mentions it."""
    if rng.random() < 0.5:
        names, kind, mentions = rng.choice(_MENTIONS)
        return rng.choice(names.split()), kind, rng.choice(mentions.split("|"))
    name = lexicon.wild_word().lower() if rng.random() < 0.6 else rng.choice(NOUNS)
    kind = rng.choice([kind for kind in KINDS if kind != "message"])
    if KINDS[kind][0] == "integer" and rng.random() < 0.5:
        phrase = rng.choice(_COUNTED.split("|")).replace("{many}", plural(name))
        return plural(name).replace(" ", "_"), kind, phrase
    return name.replace(" ", "_"), kind, rng.choice(_NAMED.split("|"))


_FETCHING = lex.words("get fetch show query read find ask_for look_up retrieve tell check")


def renamed(rng: random.Random, lexicon: Lexicon, tool: Tool) -> Tool:
    """The same tool under another name, some parameters called otherwise: the signature must be read."""
    verb, _, rest = tool.name.partition("_")
    if not rest or tool.name == "random_number":  # whose result depends on the arguments by name
        return tool
    verb = rng.choice(_FETCHING).replace(" ", "_") if verb == "get" else verb
    name = rng.choice((f"{verb}_{rest}", f"{rest}_{verb}", f"{verb}{rest.title().replace('_', '')}",
                       f"{lexicon.wild_word().lower()}_{rest}", f"{verb}_{lexicon.wild_word().lower()}"))
    labels = {old: old if rng.random() < 0.6 else f"{rng.choice(('', 'the_', 'my_'))}{lexicon.wild_word().lower()}"
              for old in tool.parameters}
    if len(set(labels.values()) | set(tool.result)) < len(labels) + len(tool.result):
        return tool

    def filled(text: str) -> str:
        for old, new in labels.items():
            text = text.replace("{" + old + "}", "{" + new + "}")
        return text

    return replace(
        tool, name=name, parameters={labels[old]: kind for old, kind in tool.parameters.items()},
        requests=tuple(map(filled, tool.requests)), reply=filled(tool.reply),
        descriptions={new: f"The {old.replace('_', ' ')}" for old, new in labels.items()})


def invented_tool(rng: random.Random, lexicon: Lexicon) -> Tool:
    """A tool that exists nowhere else, with a request that mentions all its parameters."""
    verb, noun = rng.choice(VERBS), rng.choice(NOUNS)
    if rng.random() < 0.4:
        verb = lexicon.wild_word().lower()
    if rng.random() < 0.4:
        noun = lexicon.wild_word().lower()
    parameters: dict[str, str] = {}
    phrases = []
    for name, kind, mention in (_parameter(rng, lexicon) for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 3, 4)))):
        if name in parameters or kind in parameters.values():  # a request must say which is which
            continue
        parameters[name] = kind
        phrases.append(mention.replace("{name}", name.replace("_", " ")).replace("{}", "{" + name + "}"))
    rng.shuffle(phrases)
    opening = rng.choice((f"{verb} the {noun}", f"{verb} {with_article(noun)}", f"Please {verb} the {noun}",
                          f"I want you to {verb} the {noun}", f"Can you {verb} my {noun}"))
    said = f"{opening} {' '.join(phrases)}".replace(" ,", ",").rstrip(",")
    request = f"{capitalized(said)}{'?' if opening.startswith('Can') else '.'}"
    about = rng.choice((f"{verb.capitalize()} {with_article(noun)}.", f"{verb.capitalize()} the {noun}.",
                        f"Used to {verb} one {noun} or more.", f"Allows to {verb} {plural(noun)}."))
    label = noun.replace(" ", "_")
    return Tool(rng.choice((f"{verb}_{label}", f"{label}_{verb}", f"{verb}{label.capitalize()}")), about,
                parameters, (request,), {"status": "small"}, f"The {noun} request is done. Its status is {{status}}.")


# A parameter that is the object of the request: its names, kind, and how it is said.
_OBJECTS = [
    ("item product thing article object", "item", "the {}|my {}|a(n) {}|this {}"),
    ("cloth garment clothing piece", "item", "the {}|my {}"),
    ("food meal dish crop ingredient snack", "food", "{}|some {}|the {}"),
    ("animal pet patient creature", "animal", "the {}|my {}|a(n) {}"),
    ("room place area space", "room", "the {}|my {}"),
    ("title film song book poem game", "title", "{}|the {what} {}|\"{}\""),
    ("instrument", "instrument", "the {}|my {}"), ("hobby activity sport", "hobby", "{}"),
    ("language", "language", "{}"), ("subject topic", "subject", "{}"),
    ("word name label", "word", "\"{}\"|the word {}"),
    ("person friend guest customer member player", "name", "{}"), ("city town", "city", "{}"),
    ("train flight bus door table ticket page line gate order case lift truck", "number",
     "{what} {}|the {what} number {}"),
    ("amount distance weight sum", "number", "{} euros|{} miles|{} pounds"),
]
# Further parameters: names, kind, and how they are said.
_DETAILS = [
    ("hours minutes days weeks nights months years", "small", "for {} {what}|for {} {what}"),
    ("degrees", "small", "at {} degrees|to {} degrees"), ("times rounds", "small", "{} {what}"),
    ("rows boxes pieces copies cups bags slices bottles", "small",
     "in {} {what}|with {} {what}|{} {what} of it"),
    ("people guests children players", "small", "for {} {what}"),
    ("seat shelf row level box floor platform", "small", "on {what} {}|at {what} {}|in {what} {}"),
    ("city town location destination", "city", "in {}|to {}|near {}|from {}"),
    ("owner person student customer guest player recipient friend", "name", "for {}|with {}|together with {}"),
    ("day weekday", "day", "on {}|next {}|this {}"), ("date start_date", "date", "on {}|for {}|by {}"),
    ("time hour start", "time", "at {}|before {}|after {}"), ("room place", "room", "in the {}|from the {}"),
    ("colour paint", "colour", "in {}"), ("language", "language", "in {}"),
    ("price budget limit", "number", "for {} euros|under {} euros"), ("subject topic", "subject", "about {}|on {}"),
]
_DOING = ("{act}.", "Please {act}.", "Please {act}.", "Can you {act}?", "Could you {act}, please?",
          "I want to {act}.", "I would like to {act}.", "I have to {act}.", "It is time to {act}.", "We need to {act}.",
          "Let us {act}.", "You should {act}.", "Help me to {act}.", "I forgot to {act}. Do it for me.")
_ASKING = ("What is the {noun} {rest}?", "Tell me the {noun} {rest}.", "Is there a(n) {noun} {rest}?",
           "How is the {noun} {rest}?", "Find a(n) {noun} {rest}.", "I need a(n) {noun} {rest}.",
           "Which {noun} is there {rest}?", "Show me the {noun} {rest}.", "I am looking for a(n) {noun} {rest}.",
           "When is the {noun} {rest}?", "Where is the {noun} {rest}?", "How many {many} are there {rest}?",
           "Do you know the {noun} {rest}?", "A(n) {noun} {rest}, please.")
_HELD_OUT_NAMES = {tool.name for tool in HELD_OUT_CATALOGUE}


def _said(rng: random.Random, entry: tuple[str, str, str], used: dict[str, str]) -> str:
    """Adds a parameter of `entry` to `used` and returns the phrase that says it."""
    names, kind, phrases = entry
    label = rng.choice(names.split())
    name = f"{rng.choice(('the', 'new', 'my', 'target', 'for'))}_{label}" if rng.random() < 0.1 else label
    if name in used or kind in used.values():
        return ""
    used[name] = kind
    return rng.choice(phrases.split("|")).replace("{}", "{" + name + "}").replace("{what}", label.replace("_", " "))


def natural_tool(rng: random.Random, lexicon: Lexicon) -> Tool:
    """A tool asked for as people ask: the kinds of the values tell which parameter they are for."""
    parameters: dict[str, str] = {}
    verb = lexicon.wild_word().lower() if rng.random() < 0.15 else rng.choice(VERBS)
    noun = lexicon.wild_word().lower() if rng.random() < 0.15 else rng.choice(NOUNS)
    name = ""
    if rng.random() < 0.4:  # asks for something
        phrases = [_said(rng, rng.choice(_DETAILS), parameters) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
        if rng.random() < 0.3 and (more := _said(rng, rng.choice(_OBJECTS), parameters)):
            phrases.append(f"with {more}")
        rng.shuffle(phrases)
        frames, act = _ASKING, ""
        verb = rng.choice(_FETCHING)
    else:
        object_ = _said(rng, rng.choice(_OBJECTS), parameters) if rng.random() < 0.7 else rng.choice(
            (f"the {noun}", with_article(noun), f"my {noun}"))
        phrases = [_said(rng, rng.choice(_DETAILS), parameters) for _ in range(rng.choice((0, 1, 1, 2, 2)))]
        if not parameters:
            phrases.append(_said(rng, _DETAILS[0], parameters))
        if "{" in object_:
            spoken = verb
            if rng.random() < 0.4:
                noun = next(iter(parameters)).replace("_", " ")
        else:
            spoken = rng.choice(VERBS) if rng.random() < 0.15 else verb  # the noun is enough to know the tool by
        act = " ".join(part for part in (spoken, object_, *phrases) if part)
        frames = _DOING
        if "person" not in parameters and "name" not in parameters.values() and rng.random() < 0.15:
            name = rng.choice(("person", "student", "owner", "customer", "guest", "member", "child"))
            parameters[name] = "name"
            frames = (f"{{{name}}} wants to {{act}}.", f"{{{name}}} would like to {{act}}.",
                      f"Please let {{{name}}} {{act}}.", f"{{{name}}} has to {{act}}.")
    rest = " ".join(phrase for phrase in phrases if phrase)
    request = rng.choice(frames)
    for slot, text in (("{act}", act), ("{noun}", noun), ("{many}", plural(noun)), ("{rest}", rest)):
        request = request.replace(slot, text)
    label = noun.replace(" ", "_")
    title = rng.choice((f"{verb}_{label}", f"{verb}_{label}", f"{label}_{verb}",
                        f"{verb}{label.title().replace('_', '')}"))
    if title in _HELD_OUT_NAMES:
        return natural_tool(rng, lexicon)
    order = list(parameters)
    rng.shuffle(order)
    about = rng.choice((f"{capitalized(verb)} {with_article(noun)}.", f"{capitalized(verb)} the {noun}.",
                        f"{capitalized(verb)} {plural(noun)}."))
    return Tool(title.replace(" ", "_"), about, {key: parameters[key] for key in order}, (capitalized(request),),
                {rng.choice(("status", "result_id", "reference")): "number"}, f"The {noun} request is done.")
