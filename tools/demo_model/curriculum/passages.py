"""Work on texts: questions on stories, summaries, records as JSON, stories on request.

Each function draws one chat. Used by `__init__.py`, and by `evaluate.py` through it.
"""

import random
from typing import Any

from . import lexicon as lex
from .chat import Chat, to_json
from .lexicon import Lexicon
from .stories import Fact, Story, tell
from .text import capitalized, counted, listed, plural, with_article

UNKNOWN = "The text does not say."


def as_reply(answer: str) -> str:
    """A short answer as the assistant gives it."""
    return capitalized(answer) + "."


def _unanswerable(rng: random.Random, story: Story) -> str:
    """A question about something that no story tells."""
    return rng.choice((
        f"What was the name of {story.hero}'s cousin?", f"How much money did {story.hero} have?",
        f"What was {story.hero}'s favourite number?", f"Which song did {story.hero} sing?",
        f"In which year was {story.hero} born?", f"What was the name of {story.hero}'s teacher?",
        f"What colour were {story.hero}'s eyes?", f"How tall was {story.hero}?",
        f"Which school did {story.hero} go to?", f"What did {story.hero} read before bed?"))


def _question(rng: random.Random, story: Story, fact: Fact | None) -> tuple[str, str]:
    if fact is None:
        return _unanswerable(rng, story), UNKNOWN
    return rng.choice(fact.questions), as_reply(fact.answer)


def _with_passage(rng: random.Random, passage: str, question: str) -> str:
    return rng.choice((
        f"{passage}\n\n{question}",
        f"Read the story and answer the question.\n\n{passage}\n\n{question}",
        f"Here is a story:\n\n{passage}\n\nQuestion: {question}",
        f"{question}\n\n{passage}",
        f"Answer the question from the text.\n\nText: {passage}\n\nQuestion: {question}",
        f"Story:\n{passage}\n\n{question} Answer briefly.",
    ))


def question_chat(rng: random.Random, lexicon: Lexicon, turns: int | None = None) -> Chat:
    """A story and `turns` questions on it, one a turn."""
    story = tell(rng, lexicon)
    turns = turns or rng.choice((1, 1, 2, 3, 4, 5, 6))
    facts: list[Fact | None] = list(rng.sample(story.facts, min(turns, len(story.facts))))
    if rng.random() < 0.06 * len(facts):
        facts[rng.randrange(len(facts))] = None
    chat = Chat()
    for index, fact in enumerate(facts):
        question, answer = _question(rng, story, fact)
        chat.user(_with_passage(rng, story.text, question) if index == 0 else question)
        chat.assistant(answer)
    return chat


def summary_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """One sentence for a story, sometimes its title as well."""
    story = tell(rng, lexicon)
    chat = Chat()
    if rng.random() < 0.7:
        ask = rng.choice(("Summarize this story in one sentence.", "Sum up the story in one sentence.",
                          "What is this story about? Answer in one sentence.",
                          "Give a one-sentence summary.", "Please summarize:"))
        chat.user(f"{ask}\n\n{story.text}" if rng.random() < 0.7 else f"{story.text}\n\n{ask}")
        chat.assistant(story.summary)
        if rng.random() < 0.3:
            question, answer = _question(rng, story, rng.choice(story.facts))
            chat.user(question).assistant(answer)
    else:
        ask = rng.choice(("Give this story a title.", "What would be a good title for this story?",
                          "Find a title."))
        chat.user(f"{ask}\n\n{story.text}").assistant(story.title)
    return chat


def story_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """A story on request; the listener may then ask about it."""
    story = tell(rng, lexicon)
    chat = Chat()
    kind = rng.random()
    if kind < 0.45:
        chat.user(rng.choice(("Tell me a story about {}.", "Write a story about {}.",
                              "Please tell me a tale about {}.", "I would like a story about {}.",
                              "Can you tell me a short story about {}?", "Make up a story about {}."))
                  .format(rng.choice((story.topic, story.topic, with_article(story.hero_kind),
                                      f"{with_article(story.hero_kind)} called {story.hero}"))))
    elif kind < 0.6:
        chat.user(rng.choice(("Tell me a story about {0}, {1}.", "Write a tale about {0}: {1}."))
                  .format(story.hero, story.topic))
    elif kind < 0.75:
        chat.user(rng.choice(('Write a story with the title "{}".', 'Tell me the story "{}".'))
                  .format(story.title))
    else:
        chat.user(rng.choice(("Tell me a story.", "Please tell me a story.", "Can you tell me a tale?",
                              "I would like to hear a story.", "Write a short story.",
                              "Tell me a bedtime story.", "Tell me another story.")))
    chat.assistant(story.text)
    for fact in rng.sample(story.facts, rng.choice((0, 0, 1, 2, 3))):
        question, answer = _question(rng, story, fact)
        chat.user(question).assistant(answer)
    if rng.random() < 0.15:
        chat.user(rng.choice(("Sum up your story in one sentence.", "What was the story about?")))
        chat.assistant(story.summary)
    return chat


def continue_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """The rest of a story whose beginning is given."""
    story = tell(rng, lexicon)
    cut = rng.randint(1, max(1, len(story.paragraphs) - 1))
    ask = rng.choice(("Continue this story.", "How does this story go on?", "Please finish the story."))
    return (Chat().user(f"{ask}\n\n" + "\n\n".join(story.paragraphs[:cut]))
            .assistant("\n\n".join(story.paragraphs[cut:])))


def _person_record(rng: random.Random, lexicon: Lexicon) -> tuple[str, dict[str, Any]]:
    feminine = rng.random() < 0.5
    he, his = ("She", "Her") if feminine else ("He", "His")
    record: dict[str, Any] = {
        "name": lexicon.name(feminine), "age": rng.randint(6, 95), "city": lexicon.place_name(),
        "job": lexicon.plain(lex.JOBS), "hobby": lexicon.plain(lex.HOBBIES), "pet": lexicon.plain(lex.PETS),
        "favourite_colour": lexicon.plain(lex.COLOURS), "favourite_food": lexicon.plain(lex.FOODS)}
    sentences = [
        rng.choice(("{name} is {age} years old and lives in {city}.", "{name}, {age}, comes from {city}.",
                    "My friend {name} lives in {city} and is {age}.")).format(**record),
        rng.choice((f"{he} works as {with_article(record['job'])}.",
                    f"{he} is {with_article(record['job'])}.")),
        rng.choice((f"{he} enjoys {record['hobby']}.", f"{his} hobby is {record['hobby']}.",
                    f"On Sundays {he.lower()} likes {record['hobby']}.")),
        rng.choice((f"{he} has {with_article(record['pet'])}.",
                    f"{his} pet is {with_article(record['pet'])}.")),
        f"{his} favourite colour is {record['favourite_colour']}.",
        f"{he} likes to eat {record['favourite_food']}."]
    keys = list(record)
    count = rng.randint(2, 6)
    told = sentences[:count]
    known = {key: record[key] for key in keys[:count + 2]}
    return " ".join([told[0]] + rng.sample(told[1:], count - 1)), known


def _event_record(rng: random.Random, lexicon: Lexicon) -> tuple[str, dict[str, Any]]:
    record: dict[str, Any] = {
        "event": lexicon.plain(lex.FEASTS + list(lex.CONTESTS)), "day": rng.choice(lex.DAYS),
        "time": f"{rng.randint(7, 22)}:{rng.choice(('00', '15', '30', '45'))}",
        "place": lexicon.place_name(), "guests": rng.randint(4, 300), "host": lexicon.person()}
    text = rng.choice((
        "The {event} takes place on {day} at {time} in {place}. {host} has invited {guests} guests.",
        "{host} is planning a {event} in {place}. It starts at {time} on {day}, and {guests} people will come.",
        "On {day}, {host} hosts the {event}. {guests} guests are expected in {place} at {time}."))
    return text.format(**record), record


def _order_record(rng: random.Random, lexicon: Lexicon) -> tuple[str, dict[str, Any]]:
    item, quantity = lexicon.plain(lex.SHOP_ITEMS), rng.randint(2, 40)
    record: dict[str, Any] = {
        "customer": lexicon.person(), "item": item, "quantity": quantity,
        "colour": lexicon.plain(lex.COLOURS), "price": rng.randint(2, 400), "city": lexicon.place_name(),
        "order_number": rng.randint(1000, 99999)}
    text = rng.choice((
        "{customer} from {city} ordered {quantity} {colour} {many} for {price} euros. "
        "The order number is {order_number}.",
        "Order {order_number}: {quantity} {colour} {many}, {price} euros, for {customer} in {city}.",
        "Please send {quantity} {colour} {many} to {customer} in {city}. They cost {price} euros. "
        "This is order {order_number}."))
    return text.format(many=plural(item), **record), record


def _animal_record(rng: random.Random, lexicon: Lexicon) -> tuple[str, dict[str, Any]]:
    record: dict[str, Any] = {
        "name": lexicon.animal_name(), "animal": lexicon.plain(lex.ANIMALS),
        "colour": lexicon.plain(lex.COLOURS), "weight": rng.randint(1, 90), "food": lexicon.plain(lex.FOODS),
        "home": lexicon.plain(lex.PLACES)}
    text = rng.choice((
        "{name} is a {colour} {animal} who lives near the {home}, weighs {weight} kilos and eats {food}.",
        "Near the {home} lives a {colour} {animal} called {name}. It eats {food} and weighs {weight} kilos.",
        "We feed {food} to {name}, our {colour} {animal} from the {home}. Its weight is {weight} kilos."))
    return text.format(**record), record


_RECORDS = [_person_record, _person_record, _event_record, _order_record, _animal_record]


def json_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """A record told in prose, wanted as JSON with certain keys; what is not told is null."""
    text, record = rng.choice(_RECORDS)(rng, lexicon)
    keys = rng.sample(list(record), rng.randint(1, len(record)))
    if rng.random() < 0.1:
        keys.insert(rng.randrange(len(keys) + 1), rng.choice(("phone", "email", "street", "website")))
    wanted = {key: record.get(key) for key in keys}
    names = listed(keys) if rng.random() < 0.5 else ", ".join(keys)
    ask = rng.choice((
        f"Extract {names} as JSON.", f"Return a JSON object with the keys {names}.",
        f"Give me a JSON object with {names}.", f"Write JSON with the keys {names}. Answer only with JSON.",
        f"Extract the following as JSON: {names}."))
    layout = rng.choice(("{ask}\n\n{text}", "{text}\n\n{ask}", "{ask} Text: {text}"))
    return Chat().user(layout.format(ask=ask, text=text)).assistant(to_json(wanted))


def json_list_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Several things in one sentence as a JSON list of objects."""
    kinds = list(dict.fromkeys(lexicon.plain(lex.COUNTABLES) for _ in range(rng.randint(2, 4))))
    counts = [rng.randint(2, 60) for _ in kinds]
    phrase = listed([counted(count, kind) for count, kind in zip(counts, kinds)])
    text = rng.choice((f"{lexicon.person()} bought {phrase}.", f"In the box there are {phrase}.",
                       f"We need {phrase}.", f"{lexicon.person()} sold {phrase} at the market."))
    ask = rng.choice(("Return a JSON list of objects with item and count.",
                      "Extract a JSON list; each object has the keys item and count."))
    value = [{"item": plural(kind), "count": count} for count, kind in zip(counts, kinds)]
    return Chat().user(f"{ask}\n\n{text}").assistant(to_json(value))
