"""Tools: what one is, the kinds of value it takes, and a catalogue with natural requests.

Some tools of the catalogue are kept for the evaluation. Used by `invented.py` and `tools.py`.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from . import lexicon as lex
from .lexicon import Lexicon

# The kinds of value that a parameter takes: JSON type and how to draw one.
KINDS: dict[str, tuple[str, Any]] = {
    "city": ("string", lambda rng, x: x.place_name()),
    "name": ("string", lambda rng, x: x.person()),
    "small": ("integer", lambda rng, x: rng.randint(2, 20)),
    "number": ("integer", lambda rng, x: rng.randint(1, 9999)),
    "percent": ("integer", lambda rng, x: rng.randint(0, 100)),
    "date": ("string", lambda rng, x: f"{rng.randint(2024, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"),
    "day": ("string", lambda rng, x: rng.choice(lex.DAYS)),
    "time": ("string", lambda rng, x: f"{rng.randint(6, 23):02}:{rng.choice(('00', '10', '15', '30', '45'))}"),
    "food": ("string", lambda rng, x: x.plain(lex.FOODS)),
    "item": ("string", lambda rng, x: x.plain(lex.SHOP_ITEMS)),
    "colour": ("string", lambda rng, x: x.plain(lex.COLOURS)),
    "language": ("string", lambda rng, x: x.plain(lex.LANGUAGES)),
    "room": ("string", lambda rng, x: x.plain(lex.ROOMS)),
    "animal": ("string", lambda rng, x: x.plain(lex.ANIMALS)),
    "hobby": ("string", lambda rng, x: x.plain(lex.HOBBIES)),
    "instrument": ("string", lambda rng, x: x.plain(lex.INSTRUMENTS)),
    "subject": ("string", lambda rng, x: x.plain(lex.SUBJECTS)),
    "word": ("string", lambda rng, x: x.plain(lex.THINGS + lex.TRAITS + lex.PLACES)),
    "title": ("string", lambda rng, x: _title(rng, x)),
    "message": ("string", lambda rng, x: _message(rng, x)),
    "sum": ("string", lambda rng, x: f"{rng.randint(2, 999)} {rng.choice('+-*')} {rng.randint(2, 999)}"),
    "invented": ("string", lambda rng, x: x.invented_name()),
}


def _title(rng: random.Random, lexicon: Lexicon) -> str:
    return rng.choice((f"The {rng.choice(lex.COLOURS).capitalize()} {rng.choice(lex.THINGS).title()}",
                       f"{lexicon.person()} and the {rng.choice(lex.ANIMALS).title()}",
                       f"One {rng.choice(lex.SEASONS).title()} in {lexicon.place_name()}"))


def _message(rng: random.Random, lexicon: Lexicon) -> str:
    return rng.choice((
        f"I will be {rng.randint(5, 50)} minutes late", f"The {rng.choice(lex.FOODS)} arrived today",
        f"Please bring the {rng.choice(lex.THINGS)}", f"Meet me at the {rng.choice(lex.PLACES)}",
        f"Happy birthday, {lexicon.person()}", f"See you on {rng.choice(lex.DAYS)}",
        f"We need more {rng.choice(lex.FOODS)}", f"The {rng.choice(lex.ROOMS)} is ready",
        f"Do not forget the {rng.choice(lex.SHOP_ITEMS)}", f"Call {lexicon.person()} back"))


@dataclass(frozen=True)
class Tool:
    """`parameters` maps a name to its kind; requests, result and reply share their slots."""

    name: str
    about: str
    parameters: dict[str, str]
    requests: tuple[str, ...]
    result: dict[str, str]  # key -> kind
    reply: str
    descriptions: dict[str, str] = field(default_factory=dict)  # of parameters whose name says too little

    def schema(self) -> dict[str, Any]:
        """The signature as the chat template prints it."""
        properties = {name: {"type": KINDS[kind][0], "description": self.descriptions.get(
            name, f"The {name.replace('_', ' ')}")} for name, kind in self.parameters.items()}
        return {"type": "function", "function": {
            "name": self.name, "description": self.about,
            "parameters": {"type": "object", "properties": properties, "required": list(properties)}}}


def _parameters(text: str) -> dict[str, str]:
    """`a city:b` -> {"a": "a", "b": ...}: a word is a parameter, `name:kind` gives its kind."""
    pairs = (word.partition(":") for word in text.split())
    return {name: kind or name for name, _, kind in pairs}


def _tool(name: str, about: str, parameters: str, requests: str, result: str, reply: str) -> Tool:
    return Tool(name, about, _parameters(parameters), tuple(requests.split(" | ")), _parameters(result), reply)


CATALOGUE = [
    _tool("get_weather", "Get the weather in a city.", "city",
          "What is the weather in {city}? | How is the weather in {city} today? | Is it raining in {city}? | "
          "Tell me the weather for {city}.",
          "degrees:small", "It is {degrees} degrees in {city}."),
    _tool("get_forecast", "Get the weather forecast for a city and a day.", "city day",
          "What will the weather be in {city} on {day}? | Give me the forecast for {city} on {day}. | "
          "Will it rain on {day} in {city}?",
          "degrees:small", "On {day} it will be {degrees} degrees in {city}."),
    _tool("get_time", "Get the current time in a city.", "city",
          "What time is it in {city}? | Tell me the time in {city}. | How late is it in {city} now?",
          "time", "It is {time} in {city}."),
    _tool("calculate", "Calculate an arithmetic expression.", "expression:sum",
          "What is {expression}? Use the calculator. | Please calculate {expression} with the tool. | "
          "Compute {expression}.",
          "value:number", "The result is {value}."),
    _tool("send_message", "Send a message to a person.", "recipient:name text:message",
          "Send a message to {recipient}: {text}. | Tell {recipient} this: {text}. | "
          "Please write to {recipient}: {text}. | Message {recipient}: {text}.",
          "message_id:number", "I have sent the message to {recipient}."),
    _tool("set_alarm", "Set an alarm.", "time",
          "Set an alarm for {time}. | Wake me at {time}. | I need an alarm at {time}, please.",
          "alarm_id:small", "The alarm is set for {time}."),
    _tool("set_timer", "Start a timer.", "minutes:small",
          "Start a timer for {minutes} minutes. | Set a timer of {minutes} minutes. | "
          "Remind me when {minutes} minutes are over.",
          "timer_id:small", "The timer runs for {minutes} minutes."),
    _tool("add_reminder", "Add a reminder for a day.", "text:message day",
          "Remind me on {day}: {text}. | Add a reminder for {day}: {text}.",
          "reminder_id:number", "I will remind you on {day}."),
    _tool("create_event", "Create an event in the calendar.", "title date time",
          "Put {title} into my calendar on {date} at {time}. | Create an event called {title} on {date} at {time}. | "
          "Plan {title} for {date}, {time}.",
          "event_id:number", "{title} is in your calendar on {date} at {time}."),
    _tool("list_events", "List the events of a day.", "date",
          "What is in my calendar on {date}? | List my events on {date}. | Do I have plans on {date}?",
          "count:small", "You have {count} events on {date}."),
    _tool("search_books", "Search the library for books.", "subject",
          "Find books about {subject}. | Search the library for {subject}. | Do you have books on {subject}?",
          "count:small", "I found {count} books about {subject}."),
    _tool("borrow_book", "Borrow a book from the library.", "title member:name",
          "Borrow {title} for {member}. | {member} would like to borrow {title}. | "
          "Please lend the book {title} to {member}.",
          "due:date", "{title} is lent to {member} until {due}."),
    _tool("translate", "Translate a text into a language.", "text:message language",
          "Translate into {language}: {text}. | How do you say this in {language}: {text}? | "
          "Put this into {language}: {text}.",
          "translation:invented", "In {language} that is: {translation}."),
    _tool("book_table", "Book a table in a restaurant.", "guests:small day time",
          "Book a table for {guests} on {day} at {time}. | I need a table for {guests} people at {time} on {day}. | "
          "Reserve a table on {day} at {time} for {guests} guests.",
          "table:small", "Table {table} is booked for {guests} on {day} at {time}."),
    _tool("order_food", "Order food to a room.", "food quantity:small room",
          "Bring {quantity} portions of {food} to the {room}. | Order {quantity} servings of {food} for the {room}. | "
          "We want {food} in the {room}, {quantity} portions.",
          "minutes:small", "{quantity} portions of {food} will be in the {room} in {minutes} minutes."),
    _tool("buy_item", "Buy an item in the shop.", "item colour quantity:small",
          "Buy {quantity} of the {colour} {item}. | Get me the {item} in {colour}, {quantity} times. | "
          "I want the {colour} {item}; order {quantity}.",
          "price:number", "You bought {quantity} of the {colour} {item} for {price} euros."),
    _tool("check_stock", "Check how many pieces of an item are left.", "item",
          "How many of the {item} do we have left? | Is the {item} still in stock? | Check the stock of the {item}.",
          "count:small", "There are {count} left."),
    _tool("get_price", "Get the price of an item.", "item",
          "How much does the {item} cost? | What is the price of the {item}? | Tell me what the {item} costs.",
          "price:number", "The {item} costs {price} euros."),
    _tool("turn_on_light", "Turn on the light in a room.", "room",
          "Turn on the light in the {room}. | Light up the {room}, please. | It is dark in the {room}. Turn the light on.",
          "lamps:small", "The light in the {room} is on."),
    _tool("turn_off_light", "Turn off the light in a room.", "room",
          "Turn off the light in the {room}. | Switch the light in the {room} off. | No light in the {room}, please.",
          "lamps:small", "The light in the {room} is off."),
    _tool("set_brightness", "Set the brightness of the light in a room.", "room percent",
          "Set the light in the {room} to {percent} percent. | Dim the {room} to {percent} percent. | "
          "Brightness {percent} in the {room}, please.",
          "lamps:small", "The light in the {room} is at {percent} percent."),
    _tool("set_temperature", "Set the temperature of a room.", "room degrees:small",
          "Heat the {room} to {degrees} degrees. | Set the {room} to {degrees} degrees. | "
          "I want {degrees} degrees in the {room}.",
          "minutes:small", "The {room} will be at {degrees} degrees in {minutes} minutes."),
    _tool("find_train", "Find a train between two cities.", "start:city destination:city",
          "Find a train from {start} to {destination}. | How do I get from {start} to {destination} by train? | "
          "I want to go by train to {destination} from {start}.",
          "time", "A train from {start} to {destination} leaves at {time}."),
    _tool("book_flight", "Book a flight.", "start:city destination:city date",
          "Book a flight from {start} to {destination} on {date}. | I need to fly to {destination} from {start} on {date}. | "
          "On {date} I fly from {start} to {destination}. Please book it.",
          "flight:number", "Your flight {flight} to {destination} is booked for {date}."),
    _tool("get_distance", "Get the distance between two cities in kilometres.", "start:city end:city",
          "How far is it from {start} to {end}? | What is the distance between {start} and {end}?",
          "kilometres:number", "It is {kilometres} kilometres from {start} to {end}."),
    _tool("find_hotel", "Find a hotel in a city.", "city nights:small",
          "Find a hotel in {city} for {nights} nights. | I need a room in {city}, {nights} nights. | "
          "Where can I stay in {city} for {nights} nights?",
          "price:number", "There is a hotel in {city} for {price} euros."),
    _tool("play_music", "Play music of an instrument.", "instrument",
          "Play some {instrument} music. | I would like to hear the {instrument}. | Put on music with a(n) {instrument}.",
          "minutes:small", "Here is {instrument} music for {minutes} minutes."),
    _tool("play_song", "Play a song by its title.", "title",
          "Play the song {title}. | I want to hear {title}. | Please put on {title}.",
          "minutes:small", "Now playing: {title}."),
    _tool("find_contact", "Look up a person's phone number.", "name",
          "What is the phone number of {name}? | Look up {name}. | How can I reach {name} by phone?",
          "phone:number", "The number of {name} is {phone}."),
    _tool("call_person", "Call a person on the phone.", "name",
          "Call {name}. | Please ring {name}. | I want to talk to {name} on the phone.",
          "seconds:small", "I am calling {name}."),
    _tool("add_to_list", "Add something to the shopping list.", "food quantity:small",
          "Add {quantity} packs of {food} to the shopping list. | Put {food} on my list, {quantity} packs. | "
          "We are out of {food}. Add {quantity} to the list.",
          "entries:small", "{food} is on the list, which has {entries} entries now."),
    _tool("define_word", "Look up a word in the dictionary.", "word",
          "What does the word {word} mean? | Look up {word} in the dictionary. | Define {word}.",
          "page:number", "You find {word} on page {page}."),
    _tool("feed_animal", "Feed an animal of the farm.", "animal food",
          "Give the {animal} some {food}. | Feed {food} to the {animal}. | The {animal} is hungry; it likes {food}.",
          "weight:small", "The {animal} got {food}."),
    _tool("enroll_course", "Enroll a student in a course.", "student:name subject",
          "Enroll {student} in {subject}. | {student} wants to study {subject}. | Sign up {student} for {subject}.",
          "room_number:number", "{student} is enrolled in {subject}, room {room_number}."),
    _tool("take_note", "Save a note.", "text:message",
          "Note this down: {text}. | Take a note: {text}. | Save this note: {text}.",
          "note_id:number", "I saved note {note_id}."),
    _tool("random_number", "Draw a random number up to a limit.", "limit:number",
          "Give me a random number up to {limit}. | Pick any number between 1 and {limit}. | Roll a number up to {limit}.",
          "value:number", "The number is {value}."),
    _tool("paint_room", "Order a painter for a room.", "room colour day",
          "Have the {room} painted {colour} on {day}. | On {day}, paint the {room} {colour}. | "
          "I want a(n) {colour} {room}. Send the painter on {day}.",
          "hours:small", "The {room} will be {colour} on {day} after {hours} hours."),
    _tool("find_club", "Find a club for a hobby in a city.", "hobby city",
          "Is there a(n) {hobby} club in {city}? | Find a club for {hobby} in {city}. | "
          "I live in {city} and like {hobby}. Where is a club?",
          "members:number", "There is a(n) {hobby} club in {city} with {members} members."),
    _tool("open_door", "Open a door by its number.", "door:number",
          "Open door {door}. | Please unlock the door number {door}. | Let me in at door {door}.",
          "seconds:small", "Door {door} is open."),
    _tool("convert_currency", "Convert an amount of money between countries.", "amount:number city",
          "How much are {amount} euros in the money of {city}? | I travel to {city} with {amount} euros. Convert them.",
          "value:number", "That is {value} in {city}."),
]

# Never seen in training: neither the tool nor its requests.
HELD_OUT_CATALOGUE = [
    _tool("plant_seeds", "Plant seeds in the garden.", "plant:food rows:small",
          "Plant {rows} rows of {plant}. | Please sow {plant} in {rows} rows.",
          "days:small", "{rows} rows of {plant} are planted."),
    _tool("rent_bicycle", "Rent a bicycle in a city for some hours.", "city hours:small",
          "Rent a bicycle in {city} for {hours} hours. | I need a bicycle in {city}, for {hours} hours.",
          "price:number", "The bicycle in {city} costs {price} euros."),
    _tool("get_sunrise", "Get the time of sunrise in a city on a date.", "city date",
          "When does the sun rise in {city} on {date}? | Tell me the sunrise in {city} for {date}.",
          "time", "The sun rises at {time} in {city}."),
    _tool("adopt_pet", "Adopt an animal from the shelter.", "animal owner:name",
          "{owner} wants to adopt a(n) {animal}. | Please let {owner} adopt the {animal}.",
          "pet_id:number", "{owner} has adopted the {animal}."),
    _tool("ring_bell", "Ring the bell of a room some times.", "room times:small",
          "Ring the bell in the {room} {times} times. | Sound the bell {times} times in the {room}.",
          "seconds:small", "The bell in the {room} rang {times} times."),
    _tool("find_teacher", "Find a teacher for a language in a city.", "language city",
          "Find a(n) {language} teacher in {city}. | Who teaches {language} in {city}?",
          "count:small", "There are {count} teachers of {language} in {city}."),
    _tool("cancel_meeting", "Cancel the meeting with a person on a day.", "person:name day",
          "Cancel my meeting with {person} on {day}. | I cannot meet {person} on {day}. Please cancel it.",
          "meeting_id:number", "The meeting with {person} on {day} is cancelled."),
    _tool("reserve_seat", "Reserve a seat in a train.", "train:number seat:small",
          "Reserve seat {seat} in train {train}. | I would like seat {seat} on train {train}.",
          "price:small", "Seat {seat} in train {train} is yours."),
    _tool("wash_clothes", "Wash clothes at a temperature.", "cloth:item degrees:small",
          "Wash the {cloth} at {degrees} degrees. | The {cloth} is dirty. Wash it at {degrees} degrees.",
          "minutes:small", "The {cloth} is clean in {minutes} minutes."),
    _tool("start_lesson", "Start a lesson on an instrument for a student.", "student:name instrument",
          "Start a(n) {instrument} lesson for {student}. | {student} wants to learn the {instrument}. Start a lesson.",
          "minutes:small", "The lesson for {student} lasts {minutes} minutes."),
]
