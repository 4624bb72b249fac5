"""Small talk and mixed conversations: greetings, memory of what was said, one request after another.

Used by `__init__.py`.
"""

import random

from . import lexicon as lex
from .chat import Chat
from .exercises import draw as draw_exercise
from .lexicon import Lexicon
from .passages import as_reply
from .stories import tell
from .text import capitalized, counted, listed, plural, with_article

NAME = "Gale"

_SMALL_TALK = [
    ("Hello!|Hi!|Hello there.|Good morning!|Good evening!|Hi, how are you?|Hey!",
     "Hello! How can I help you?|Hello! What can I do for you?|Hi! Would you like a story?"),
    ("Who are you?|What are you?|What is your name?|Are you a person?|Introduce yourself.",
     f"I am {NAME}, a very small language model. I tell stories and do small tasks."),
    ("What can you do?|How can you help me?|What are you good at?|Help!",
     "I can tell stories, answer questions on a text, do small sums, copy and edit text, write JSON and "
     "call tools."),
    ("Thank you!|Thanks!|Thank you very much.|Thanks a lot!|Great, thank you.",
     "You are welcome!|You are welcome! Is there anything else?|My pleasure."),
    ("Goodbye!|Bye!|See you tomorrow.|Good night!|That is all for today.",
     "Goodbye! Have a nice day.|Goodbye! See you soon.|Sleep well!"),
    ("How are you?|How do you feel today?|Are you well?", "I am well, thank you. And you?"),
    ("What is the capital of Wonderland?|What will happen tomorrow?|Who will win the next election?|"
     "What is the meaning of life?|Which shares should I buy?|Can you see me?|What did I eat today?",
     "I am sorry, I do not know that."),
    ("I am sad.|I feel lonely.|I had a bad day.|I am tired.",
     "I am sorry to hear that. Would you like to hear a story?"),
    ("I am happy!|I had a lovely day.|Today is my birthday!|I won a prize!",
     "How wonderful! I am glad to hear it."),
    ("Tell me a joke.|Make me laugh.|Do you know a joke?",
     "Why did the teddy bear want no cake? It was already stuffed.|"
     "What has hands but cannot clap? A clock.|What gets wetter while it dries? A towel."),
]

_SYSTEMS = ("You are a helpful assistant.", f"You are {NAME}, a small and friendly assistant.",
            "You are a kind storyteller.", "You help children to read.", "Answer briefly.",
            "You are a patient teacher.")


def add_system(rng: random.Random, chat: Chat) -> Chat:
    """Puts a system message before a third of the chats."""
    if rng.random() < 0.33:
        chat.messages.insert(0, {"role": "system", "content": rng.choice(_SYSTEMS)})
    return chat


def _small_talk(rng: random.Random, chat: Chat) -> None:
    said, answers = rng.choice(_SMALL_TALK)
    chat.user(rng.choice(said.split("|"))).assistant(rng.choice(answers.split("|")))


def naming_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Some things of a kind, as a line or as a list."""
    noun, pool = rng.choice((("animal", lex.ANIMALS), ("colour", lex.COLOURS), ("food", lex.FOODS),
                             ("job", lex.JOBS), ("hobby", lex.HOBBIES),
                             ("city", [city for city in lex.CITIES if not lex.is_held_out(city)]),
                             ("language", lex.LANGUAGES), ("instrument", lex.INSTRUMENTS)))
    count = rng.randint(2, 8)
    wanted = counted(count, noun) if rng.random() < 0.3 else f"{lex.NUMBER_WORDS[count]} {plural(noun)}"
    items = rng.sample(pool, count)
    if rng.random() < 0.5:
        return Chat().user(rng.choice(("Name {}.", "Tell me {}.")).format(wanted)).assistant(capitalized(listed(items)) + ".")
    return (Chat().user(rng.choice(("List {}.", "Make a list of {}.", "Give me a list of {}.")).format(wanted))
            .assistant("\n".join(f"- {item}" for item in items)))


# What a user tells about themselves: statement, question, answer, and the words for {}.
_MEMORIES = [
    ("My favourite colour is {}.", "What is my favourite colour?", "Your favourite colour is {}.", lex.COLOURS),
    ("I live in {}.", "Where do I live?", "You live in {}.", lex.CITIES),
    ("I like to eat {}.", "What do I like to eat?", "You like to eat {}.", lex.FOODS),
    ("My hobby is {}.", "What is my hobby?", "Your hobby is {}.", lex.HOBBIES),
    ("I work as {}.", "What is my job?", "You work as {}.", [with_article(job) for job in lex.JOBS]),
    ("I play the {}.", "Which instrument do I play?", "You play the {}.", lex.INSTRUMENTS),
    ("My birthday is in {}.", "When is my birthday?", "Your birthday is in {}.", lex.MONTHS),
    ("I have {}.", "Which animal do I have?", "You have {}.", [with_article(pet) for pet in lex.PETS]),
]


def memory_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """The user says things that later questions ask for, with other talk in between."""
    chat = Chat()
    asked: list[tuple[str, str]] = []
    if rng.random() < 0.75:
        name = lexicon.person()
        chat.user(rng.choice(("My name is {}.", "Hello, I am {}.", "Hi! My name is {}.", "You can call me {}."))
                  .format(name))
        chat.assistant(rng.choice(("Hello, {}! How can I help you?", "Nice to meet you, {}!", "Hello, {}!"))
                       .format(name))
        asked.append((rng.choice(("What is my name?", "Do you remember my name?", "Who am I?",
                                  "Do you know what I am called?")), f"Your name is {name}."))
    for statement, question, answer, values in rng.sample(_MEMORIES, rng.randint(0 if asked else 1, 3)):
        value = lexicon.place_name() if values is lex.CITIES else rng.choice(values)
        chat.user(statement.format(value)).assistant(rng.choice(("I see.", "Good to know!", "That is nice!")))
        asked.append((question, answer.format(value)))
    for _ in range(rng.choice((0, 0, 1, 2))):
        if rng.random() < 0.5:
            _small_talk(rng, chat)
        else:
            question, reply = draw_exercise(rng, lexicon)
            chat.user(question).assistant(reply)
    for question, reply in rng.sample(asked, len(asked)):
        chat.user(question).assistant(reply)
    return chat


def exercise_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """One to six exercises, one a turn."""
    chat = Chat()
    for _ in range(rng.choice((1, 2, 3, 4, 6))):
        question, answer = draw_exercise(rng, lexicon)
        chat.user(question).assistant(answer)
    return chat


def mixed_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Small talk, exercises and a story with questions in one conversation."""
    chat = Chat()
    story = None
    for _ in range(rng.randint(2, 6)):
        kind = rng.random()
        if kind < 0.4:
            _small_talk(rng, chat)
        elif kind < 0.65:
            question, answer = draw_exercise(rng, lexicon)
            chat.user(question).assistant(answer)
        elif story is None:
            story = tell(rng, lexicon)
            chat.user(rng.choice((f"Tell me a story about {story.topic}.", "Tell me a story, please."))
                      ).assistant(story.text)
        else:
            fact = rng.choice(story.facts)
            chat.user(rng.choice(fact.questions)).assistant(as_reply(fact.answer))
    return chat
