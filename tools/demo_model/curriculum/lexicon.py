"""The words that the curriculum is written with, and the split that keeps some of them unseen.

Lists are whitespace-separated strings; an underscore stands for a space inside an entry. Names,
cities and other values that a reader has to copy from the prompt are split by a checksum: about one
in eight belongs to the evaluation alone. Used by every other module of this package.
"""

import random
import re
import zlib
from collections.abc import Iterable


def words(text: str) -> list[str]:
    """Splits a word list; `_` becomes a space inside an entry."""
    return [word.replace("_", " ") for word in text.split()]


def is_held_out(value: str) -> bool:
    """Whether `value` is kept out of training, by a checksum: stable across runs and machines.

    Words that training must say for another reason (capitals, months) are not.
    """
    return zlib.crc32(value.encode()) % 8 == 0 and value not in _NEVER_HELD_OUT


GIRLS = words("""
    Ada Agnes Alice Alma Amelia Amina Amy Ana Anna Anya Astrid Aurora Beatrice Bella Bianca Bridget
    Camille Carla Carmen Cecilia Celia Chiara Clara Cora Daisy Dalia Daphne Delia Diana Dora Edith
    Elena Eliza Ella Elsa Emily Emma Erika Esther Eva Evelyn Farah Fatima Fiona Flora Freya Gemma
    Georgia Gloria Grace Greta Hana Hannah Harriet Hazel Heidi Helen Hilda Holly Ida Ines Ingrid Irene
    Iris Isabel Ivy Jane Jasmine Jenny Joan Josie Joy Judith Julia June Kate Katya Keiko Kira Lara
    Laura Layla Leila Lena Lila Lily Linda Lisa Lotte Lucy Luna Lydia Mabel Maggie Maja Mara Margot
    Maria Marta Mary Matilda Maya Meera Mia Mila Mina Mira Molly Nadia Nancy Nell Nina Nora Olga Olive
    Olivia Paula Pearl Penny Petra Phoebe Polly Priya Rachel Rita Rosa Rose Rosie Ruby Ruth Sadie
    Sally Sana Sara Selma Sofia Sonia Stella Susan Sylvia Tara Tess Tilda Tina Ursula Vera Viola Wanda
    Wendy Willa Yara Yuki Zara Zelda Zoe""")

BOYS = words("""
    Aaron Abel Adam Ahmed Alan Albert Alex Alfie Amir Anders Andrew Anton Arjun Arlo Arthur Axel Basil
    Ben Benny Bernard Boris Bruno Caleb Carl Carlos Caspar Cedric Charlie Clive Colin Conrad Cyrus
    Damian Daniel Dario David Dennis Diego Dmitri Duncan Edgar Edmund Edwin Eli Emil Enzo Eric Ernest
    Ethan Felix Finn Florian Frank Fred Gabriel George Gilbert Gregor Gus Hamid Hans Harold Harry
    Hassan Hector Henry Hugo Ian Igor Isaac Ivan Jack Jacob Jakob James Jan Jasper Joel Jonas Joseph
    Juan Julian Kai Karim Karl Kenji Kurt Lars Leo Leon Liam Linus Louis Luca Lucas Luis Magnus Malik
    Marco Mario Martin Mateo Matthew Max Milo Nathan Ned Neil Nico Noah Oliver Omar Oscar Otto Owen
    Pablo Patrick Paul Pedro Peter Philip Pierre Quentin Rafael Ralph Ravi Remy Robert Robin Roland
    Roman Rory Rufus Rupert Sam Samir Sami Sandro Sebastian Seth Simon Stefan Sven Tariq Ted Theo
    Thomas Tim Tobias Toby Tom Tomas Tony Victor Vincent Walter Wilbur Xavier Yusuf Zack""")

ANIMAL_NAMES = words("""
    Acorn Bandit Barnaby Berry Biscuit Blossom Bramble Bubbles Bumble Button Cinder Clover Cocoa Comet
    Cricket Domino Ember Fern Fidget Flicker Ginger Hopper Juniper Marble Maple Minnow Misty Moss
    Mustard Nettle Nibbles Nutmeg Pebble Pepper Pickle Pip Plum Pudding Puddle Quill Ripple Rusty
    Scout Shadow Skipper Smudge Snowy Sorrel Speckle Sprout Tansy Thistle Toffee Truffle Tumble Twig
    Velvet Whisker Willow Ziggy""")

CITIES = words("""
    Amsterdam Athens Auckland Baghdad Bangkok Barcelona Beijing Belgrade Bergen Berlin Bern Bogota
    Bordeaux Boston Brisbane Bristol Brussels Bucharest Budapest Cairo Calgary Cardiff Chicago
    Copenhagen Cork Dakar Dallas Damascus Delhi Denver Dresden Dublin Durban Edinburgh Florence
    Frankfurt Geneva Genoa Ghent Glasgow Granada Graz Hamburg Hanoi Havana Helsinki Houston Istanbul
    Jakarta Kampala Karachi Kiev Kingston Krakow Kyoto Lagos Leeds Lima Lisbon Liverpool Ljubljana
    London Lyon Madrid Malaga Manchester Manila Marseille Melbourne Memphis Mexico_City Miami Milan
    Monaco Montreal Moscow Mumbai Munich Nairobi Nantes Naples New_York Nice Odessa Osaka Oslo Ottawa
    Oxford Palermo Paris Perth Porto Prague Quebec Quito Reykjavik Riga Rome Rotterdam Salzburg
    San_Diego Santiago Sarajevo Seattle Seoul Seville Shanghai Singapore Sofia Stockholm Strasbourg
    Stuttgart Sydney Tallinn Tampa Tehran Tokyo Toronto Toulouse Tunis Turin Utrecht Valencia
    Vancouver Venice Verona Vienna Vilnius Warsaw Wellington York Zagreb Zurich""")

TRAITS = words("""
    brave kind clever curious shy gentle patient cheerful stubborn honest lazy proud lonely careful
    friendly quiet merry generous greedy bold dreamy helpful hopeful impatient thoughtful loyal playful
    polite restless silly wise busy calm daring eager earnest fearless forgetful grumpy humble nervous
    noisy sensible sleepy stern timid tidy untidy young cautious""")

MOODS = words("""
    happy proud glad calm grateful cheerful relieved delighted content peaceful joyful thankful
    hopeful pleased merry""")

LOW_MOODS = words("sad worried angry afraid lonely upset tired cross unhappy anxious ashamed gloomy")

COLOURS = words("""
    red blue green yellow white black brown grey purple orange pink golden silver scarlet violet
    crimson turquoise cream""")

ANIMALS = words("""
    fox rabbit bear wolf mouse owl hedgehog squirrel badger otter beaver deer frog toad turtle duck
    goose swan crow raven robin sparrow heron stork eagle hawk cat dog kitten puppy pony donkey goat
    lamb sheep pig hen cow horse elephant lion tiger monkey parrot penguin seal whale dolphin crab
    lizard snail beetle moth bat mole rat weasel camel zebra giraffe panda koala dragon unicorn
    dinosaur kangaroo hamster peacock tortoise goldfish butterfly bumblebee""")

PEOPLE = words("""
    farmer baker miller fisherman shepherd tailor carpenter blacksmith gardener teacher doctor nurse
    sailor captain soldier weaver potter painter clockmaker shoemaker cook hunter woodcutter musician
    librarian postman beekeeper innkeeper lighthouse_keeper merchant juggler knight king queen prince
    princess wizard giant dwarf hermit traveller neighbour pirate witch fairy mermaid robot
    firefighter inventor astronaut detective""")

HELPER_ADJECTIVES = words("""
    old small young tall thin fat tiny large friendly quiet ragged one-eyed white-haired strange
    cheerful wise blind limping sleepy spotted grey-bearded kindly clever lonely red-faced""")

PLACES = words("""
    forest meadow village castle harbour mountain valley island river_bank lake garden orchard farm
    market mill cave desert beach swamp cottage tower bridge town_square school library bakery barn
    field hill lighthouse palace museum railway_station windmill churchyard quarry waterfall vineyard
    pine_wood old_ruin park playground stable inn workshop greenhouse fish_pond""")

HOMES = words("""
    small_cottage stone_house wooden_hut tall_tower houseboat narrow_house round_tent mossy_burrow
    hollow_tree white_farmhouse crooked_house little_flat sunny_cabin thatched_cottage brick_house
    windy_attic quiet_inn old_mill red_barn painted_wagon""")

HOME_SPOTS = words("""
    by_the_sea at_the_edge_of_the_forest near_the_river on_top_of_a_hill behind_the_church
    beside_the_old_mill in_the_middle_of_the_town at_the_foot_of_the_mountain next_to_the_bakery
    under_the_great_oak on_the_island by_the_railway_line in_a_green_valley near_the_harbour
    at_the_end_of_a_long_road across_the_bridge beside_a_quiet_lake above_the_market
    between_two_tall_pines on_the_way_to_the_city""")

THINGS = words("""
    lantern kite bell ring drum flute basket mirror compass map key crown button hat scarf boat book
    box clock candle cup bowl coin feather shell stone marble doll ball bicycle wagon whistle
    umbrella necklace blanket pillow painting pocket_watch music_box violin trumpet spoon kettle
    teapot sword shield rose seed acorn jar bottle letter glove boot ribbon brush pencil notebook
    puppet spinning_top sled telescope medal broom hammer vase chest bucket wheel lamp cushion stamp
    thimble locket saddle fiddle paintbrush jug plate""")

TOOLS = words("""
    rope ladder spade hammer lantern fishing_net long_pole bucket saw axe needle whistle map hook
    blanket basket barrel wheelbarrow mirror bell candle plank paddle broom pair_of_boots
    ball_of_string magnifying_glass sack sharp_stick warm_coat""")

FOODS = words("""
    bread cheese soup porridge rice honey butter jam cake toast salad stew noodles pancakes cookies
    dumplings beans potatoes carrots apples pears plums cherries grapes strawberries raspberries nuts
    mushrooms eggs fish pasta pudding onions tomatoes peas lentils corn figs dates oranges lemons
    peaches melon cabbage yoghurt sausages waffles muffins""")

COUNTABLES = words("""
    apple pear plum egg button coin shell stone feather candle flower rose book kite marble acorn
    lemon orange carrot potato nut biscuit cake pie letter stamp ribbon hat sock spoon cup plate jar
    basket lantern bell key star balloon pencil crayon bead tulip pebble turnip muffin cookie sandwich
    peach bottle ticket picture doll chair lamp ball seed""")

PETS = words("hen goat sheep pig cow duck horse cat dog goose rabbit kitten puppy pony donkey lamb")

CLOTHES = words("""
    hat scarf coat cloak dress shirt jacket apron cap cape sweater waistcoat bonnet shawl belt
    raincoat skirt tunic""")

SEASONS = words("spring summer autumn winter")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("""
    January February March April May June July August September October November December""")
DAY_PARTS = words("morning afternoon evening night")
WEATHERS = words("""
    rainy sunny windy snowy foggy stormy cold warm cloudy frosty misty hot chilly bright grey
    drizzly""")

JOBS = words("""
    baker teacher farmer doctor nurse painter tailor carpenter gardener sailor cook librarian
    musician dentist pilot mechanic plumber writer singer actor dancer lawyer engineer clerk driver
    postman potter weaver builder firefighter photographer fisherman blacksmith shoemaker vet
    scientist barber judge poet""")

HOBBIES = words("""
    chess swimming reading painting fishing cooking dancing singing running gardening knitting sailing
    hiking cycling skating drawing pottery archery rowing climbing juggling birdwatching photography
    skiing astronomy woodwork football tennis surfing baking""")

SUBJECTS = words("history music maths geography biology art chemistry physics poetry grammar")
LANGUAGES = words("""
    French German Spanish Italian Dutch Polish Greek Turkish Arabic Hindi Japanese Korean Chinese
    Portuguese Swedish Danish Finnish Norwegian Czech Hungarian Swahili Latin""")
ROOMS = words("""
    kitchen bedroom bathroom hallway garage attic cellar office library nursery dining_room
    living_room workshop balcony porch study pantry laundry""")
SHOP_ITEMS = words("""
    lamp chair table notebook pencil backpack bicycle kettle toaster pillow blanket mirror clock camera
    umbrella jacket scarf ladder hammer bucket paintbrush guitar puzzle football helmet tent torch
    suitcase teapot vase rug shelf printer keyboard mouse headset battery candle basket mug plate""")
INSTRUMENTS = words("flute violin drum trumpet piano guitar harp cello banjo clarinet accordion fiddle")

CHORES = words("""
    feed_the_hens water_the_garden sweep_the_floor mend_the_fence fetch_the_milk wash_the_dishes
    carry_the_letters light_the_lamps guard_the_sheep stack_the_firewood paint_the_gate
    watch_the_soup bring_in_the_washing brush_the_pony clean_the_windows pick_the_apples""")

FEARS = words("""
    the_dark thunder deep_water high_places spiders the_big_dog loud_noises strangers the_old_cellar
    lightning the_sea climbing_trees speaking_in_front_of_people the_empty_house swimming owls
    being_alone geese""")

OBSTACLES = words("""
    a_wide_river a_high_wall a_locked_gate a_deep_ditch a_thick_hedge_of_thorns a_fallen_tree
    a_broken_bridge a_steep_cliff an_angry_bull a_hungry_wolf a_heavy_stone a_thick_fog
    a_sudden_storm a_sleeping_giant a_muddy_swamp a_frozen_lake a_grumpy_guard a_swarm_of_bees
    a_roaring_waterfall a_maze_of_paths a_wall_of_ice a_flooded_road""")

HIDING_PLACES = words("""
    under_the_bed behind_the_stove inside_an_old_boot on_top_of_the_cupboard in_the_hay
    under_a_flat_stone in_the_hollow_tree behind_the_curtain at_the_bottom_of_the_well
    under_the_stairs in_a_bird's_nest inside_the_piano between_two_books beneath_the_porch
    in_the_flour_sack behind_the_mirror under_a_pile_of_leaves in_the_coal_bucket
    beside_the_garden_gate inside_the_teapot on_the_window_sill among_the_cabbages""")

REASONS = words("""
    to_give_it_to_{his}_mother to_sell_it_at_the_fair to_show_it_to_{his}_friends to_mend_the_old_clock
    to_cheer_up_{his}_grandfather to_win_a_bet to_thank_{his}_teacher to_finish_{his}_collection
    to_keep_a_promise to_surprise_{his}_sister to_make_{his}_father_proud to_save_the_village
    to_remember_{his}_grandmother to_pay_for_the_winter_wood to_wake_the_sleeping_princess""")

CONTESTS = {
    "baking contest": "bake the best pie", "running race": "run faster than anyone",
    "singing contest": "sing the finest song", "kite contest": "fly the highest kite",
    "boat race": "row across the lake first", "drawing contest": "draw the best picture",
    "pumpkin show": "grow the largest pumpkin", "riddle contest": "answer the hardest riddle",
    "dancing contest": "dance until the music stopped", "spelling contest": "spell the longest word",
    "snowman contest": "build the tallest snowman", "fishing contest": "catch the biggest fish",
    "jumping contest": "jump over the widest ditch", "story contest": "tell the best story",
    "climbing race": "reach the top of the hill first", "garden show": "grow the loveliest flowers",
}

FEASTS = words("""
    birthday_party harvest_feast wedding spring_fair school_picnic winter_dance welcome_supper
    lantern_parade village_breakfast midsummer_feast""")

LESSONS = words("""
    that_a_small_friend_can_be_a_great_help that_kindness_is_never_wasted to_ask_for_help_in_time
    that_patience_is_stronger_than_force to_think_before_acting that_sharing_makes_everything_sweeter
    never_to_give_up_too_soon that_being_brave_does_not_mean_having_no_fear to_keep_a_promise
    that_telling_the_truth_is_best that_everyone_is_good_at_something to_listen_before_speaking
    that_a_good_plan_is_half_the_work that_friends_are_worth_more_than_gold
    to_look_after_small_things""")

NUMBER_WORDS = words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty""")

OPPOSITES = dict(pair.split("/") for pair in words("""
    hot/cold big/small fast/slow happy/sad light/dark high/low old/new open/closed full/empty wet/dry
    hard/soft loud/quiet early/late near/far rich/poor strong/weak thick/thin long/short clean/dirty
    brave/cowardly up/down left/right day/night in/out first/last true/false awake/asleep deep/shallow
    smooth/rough sharp/blunt heavy/light win/lose buy/sell push/pull"""))

BABIES = dict(pair.split("/") for pair in words("""
    dog/puppy cat/kitten cow/calf horse/foal sheep/lamb goat/kid pig/piglet duck/duckling goose/gosling
    hen/chick lion/cub bear/cub deer/fawn frog/tadpole swan/cygnet owl/owlet kangaroo/joey seal/pup
    eagle/eaglet"""))

PAST_TENSES = dict(pair.split("/") for pair in words("""
    go/went see/saw eat/ate run/ran give/gave take/took find/found make/made come/came sing/sang
    swim/swam write/wrote speak/spoke break/broke fly/flew know/knew grow/grew think/thought buy/bought
    bring/brought catch/caught teach/taught sleep/slept keep/kept feel/felt leave/left lose/lost
    send/sent build/built hear/heard stand/stood walk/walked jump/jumped open/opened carry/carried
    play/played laugh/laughed cook/cooked help/helped"""))

CAPITALS = dict(pair.split("/") for pair in words("""
    France/Paris Germany/Berlin Italy/Rome Spain/Madrid Portugal/Lisbon England/London Ireland/Dublin
    Scotland/Edinburgh Austria/Vienna Switzerland/Bern Belgium/Brussels Denmark/Copenhagen
    Sweden/Stockholm Norway/Oslo Finland/Helsinki Poland/Warsaw Hungary/Budapest Greece/Athens
    Turkey/Ankara Russia/Moscow Egypt/Cairo Kenya/Nairobi India/Delhi China/Beijing Japan/Tokyo
    Canada/Ottawa Mexico/Mexico_City Cuba/Havana Peru/Lima Chile/Santiago Brazil/Brasilia
    Argentina/Buenos_Aires Australia/Canberra Iceland/Reykjavik"""))

_NEVER_HELD_OUT = {*CAPITALS.values(), *MONTHS, *(word.capitalize() for word in BABIES)}

_ONSETS = words("b br c cr d dr f fl g gl h j k kr l m n p pr r s sh st t th tr v w y z")
_VOWELS = words("a e i o u a e i o ai ea ie o")
_CODAS = words("n r l s m n r l th nd rn x k t")


# Words for values that only copying can get right, and parts to make more of. Training adds the tokenizer's
# vocabulary, so that every token is copied now and then.
WILD_WORDS = sorted(set(" ".join(THINGS + ANIMALS + FOODS + PLACES + TRAITS + TOOLS + HIDING_PLACES + CHORES
                                 + OBSTACLES + CITIES + GIRLS + BOYS + ANIMAL_NAMES).replace("'", "").split()))
PIECES = sorted({onset + vowel + coda for onset in _ONSETS for vowel in _VOWELS for coda in ("", "n", "r", "th")})

_WORD_TOKEN = re.compile("Ġ([A-Za-z]{3,})")  # a token that is a word with its space
_PIECE_TOKEN = re.compile("[a-z]{2,6}")


def learn_vocabulary(tokens: Iterable[str]) -> None:
    """Extends `WILD_WORDS` and `PIECES` by the tokens of a byte-level BPE, in order and without repeats."""
    found = sorted(tokens)
    WILD_WORDS[:] = sorted({*WILD_WORDS, *(match[1] for match in map(_WORD_TOKEN.fullmatch, found) if match)})
    PIECES[:] = sorted({*PIECES, *(token for token in found if _PIECE_TOKEN.fullmatch(token))})


class Lexicon:
    """Draws words for one split; "train" and "eval" never share a name or another copied value.

    `wild` is the chance that a value which should be a plain word is any word at all instead.
    """

    def __init__(self, rng: random.Random, split: str, wild: float = 0.0) -> None:
        assert split in ("train", "eval"), split
        self.rng = rng
        self.held_out = split == "eval"
        self.wild = wild

    def value(self, values: list[str]) -> str:
        """A word of this split from `values`."""
        while True:
            word = self.rng.choice(values)
            if is_held_out(word) == self.held_out:
                return word

    def invented_name(self) -> str:
        """A made-up name such as `Brelan`: copying it cannot be learned by heart."""
        rng = self.rng
        while True:
            if rng.random() < 0.5:
                syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((2, 2, 3)))]
                name = ("".join(syllables) + rng.choice(("", rng.choice(_CODAS)))).capitalize()
            else:
                name = "".join(rng.choice(PIECES) for _ in range(rng.choice((2, 2, 3)))).capitalize()
            if is_held_out(name) == self.held_out:
                return name

    def wild_word(self) -> str:
        """Any word, one with a piece behind it, two halves of words put together, or pieces of words.

        A word is one token behind a space and several behind a quotation mark, so copying it into JSON takes
        knowing how its token is spelt. The second kind teaches that of words that are held out themselves.
        """
        rng = self.rng
        while True:
            kind = rng.random()
            word = rng.choice(WILD_WORDS)
            if kind < 0.15:
                word = "".join(rng.choice(PIECES) for _ in range(rng.choice((2, 2, 3, 4))))
            elif kind < 0.45:
                word += rng.choice(PIECES)
            elif kind < 0.55:
                word = word[: rng.randint(1, 4)] + rng.choice(WILD_WORDS)[-rng.randint(2, 5) :].lower()
            if is_held_out(word) == self.held_out:
                return word

    def wild_name(self) -> str:
        """A capitalized word that need not be a name."""
        while True:
            name = self.wild_word().capitalize()
            if is_held_out(name) == self.held_out:
                return name

    def plain(self, values: list[str]) -> str:
        """One of `values`, or a wild word."""
        return self.wild_word() if self.rng.random() < self.wild else self.rng.choice(values)

    def _proper(self, values: list[str]) -> str:
        """A real name of `values`, else an invented or a wild one: the more of these, the higher `wild`."""
        kind = self.rng.random()
        if kind < 0.15 + 0.4 * self.wild:
            return self.invented_name()
        if kind < 0.25 + self.wild:
            return self.wild_name()
        return self.value(values)

    def name(self, feminine: bool) -> str:
        """A person's name."""
        return self._proper(GIRLS if feminine else BOYS)

    def person(self) -> str:
        """A name of either gender."""
        return self.name(self.rng.random() < 0.5)

    def animal_name(self) -> str:
        return self.wild_name() if self.rng.random() < self.wild else self.value(ANIMAL_NAMES)

    def place_name(self) -> str:
        """A city, or one that does not exist."""
        return self._proper(CITIES)
