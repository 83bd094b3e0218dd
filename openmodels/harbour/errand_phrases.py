"""The wording of errands: a small grammar that composes requests from clauses and synonyms.

"(a|b)" stands for a or b, "<price_np>" for a phrase of that list, "{shop}" for a slot. One phrase
in eight of every list is held out: no training sentence uses it.
"""

import random
import re
import zlib

HELD_OUT_SHARE = 8  # one phrase in eight is held out
HELD_OUT_USE = 0.4  # how often a test sentence prefers a held-out phrase

GRAMMAR: dict[str, tuple[str, ...]] = {
    "opener": (
        "", "", "", "", "", "", "Hello. ", "Hi. ", "Good morning. ", "Good evening. ", "Hi there. ",
        "Morning. ", "Excuse me. ", "I am new here. ", "I have just arrived. ", "Quick one: ",
        "Sorry to bother you. ", "One more thing: ", "Hello clerk. ", "Can you help? ",
        "I am at the harbour. ", "I have a question. ", "There is something I need. ",
        "I come from the ferry. ", "Hello again. ", "Help me, please. ", "Dear clerk, ",
    ),
    "closer": (
        "", "", "", "", "", "", "", " Thanks.", " Thank you.", " Please hurry.", " I wait here.",
        " That is all.", " It is for a friend.", " I need it today.", " Many thanks.",
    ),
    # how a request for several things, or for something described by a noun, begins
    "get": (
        "(please |)tell me", "(please |)find", "(please |)look up", "(please |)check",
        "I (want|need|would like) to know", "can you (tell me|find|look up|check)",
        "could you (tell me|find|look up|check)", "please find out", "let me know", "give me",
        "I have to know", "help me find", "will you tell me", "I ask for", "I want", "I need",
    ),
    "get_clause": (
        "(please |)tell me", "(please |)find out", "(please |)look up", "(please |)check",
        "I (want|need|would like) to know", "can you (tell me|find out|look up|check)",
        "could you (tell me|find out|look up|check)", "let me know", "I have to know", "do you know",
        "help me find out", "will you tell me", "I ask", "I wonder", "say",
    ),
    "count": (
        "tell me {number} things: ", "I want to know {number} things: ", "{number} things, please: ",
        "I have {number} questions: ", "please find {number} things for me: ",
        "can you look up {number} things: ", "there are {number} things I must know: ",
    ),
    "do": (
        "", "", "", "please ", "please ", "can you ", "could you ", "will you ", "would you ",
        "I want you to ", "I need you to ", "I would like you to ", "now ", "you can ", "go and ",
        "I ask you to ",
    ),
    "also": ("also ", "and ", "and also ", "", "also please ", "next, ", "and please ", "one more thing: "),
    # questions (q), noun phrases (np) about what a reading call returns
    "price_q": (
        "(how much is|what is the price of) {a_good} (at|in) the {shop}",
        "what does the {shop} (ask|want|take) for {a_good}",
        "what does {a_good} cost (at|in) the {shop}",
        "how much does {a_good} cost at the {shop}",
        "how many coins is {a_good} at the {shop}",
        "at the {shop}, (how much is|what is) {a_good}",
        "how much do I pay (at the {shop} for {a_good}|for {a_good} at the {shop})",
        "how much would {a_good} from the {shop} be",
        "for how much does the {shop} sell {a_good}",
        "what do they (ask|want) for {a_good} at the {shop}",
        "what is the {shop}'s price for {a_good}", "what do I owe the {shop} for {a_good}",
    ),
    "price_np": (
        "the price of {a_good} (at|in) the {shop}", "the {shop}'s price for {a_good}",
        "what {a_good} costs (at|in) the {shop}", "what the {shop} (asks|wants) for {a_good}",
        "how much {a_good} is at the {shop}", "how much the {shop} asks for {a_good}",
        "the cost of {a_good} from the {shop}", "what they ask for {a_good} at the {shop}",
        "how many coins {a_good} costs at the {shop}",
    ),
    "stock_q": (
        "how many {goods} does the {shop} have", "how many {goods} are (there |)at the {shop}",
        "how many {goods} can I (get|buy) (at|from) the {shop}",
        "how many {goods} are left at the {shop}", "how many {goods} has the {shop}",
        "what number of {goods} does the {shop} have", "at the {shop}, how many {goods} are there",
        "how many {goods} are in stock at the {shop}", "what is the stock of {goods} at the {shop}",
        "how many {goods} do they have at the {shop}",
    ),
    "stock_np": (
        "how many {goods} the {shop} has", "how many {goods} are at the {shop}",
        "the number of {goods} at the {shop}", "the stock of {goods} at the {shop}",
        "how many {goods} are left at the {shop}", "how many {goods} they have at the {shop}",
        "how many {goods} I can buy at the {shop}", "the {shop}'s stock of {goods}",
    ),
    "ferry_q": (
        "when does the ferry to {to} leave on {day}", "on {day}, when is the ferry to {to}",
        "when can I (go|take the ferry) to {to} on {day}", "when are the ferries to {to} on {day}",
        "at what hour(s|) does the ferry go to {to} on {day}",
        "what time is the {day} ferry to {to}", "when do ferries go to {to} on {day}",
        "when does a ferry take me to {to} on {day}", "which ferries go to {to} on {day}",
        "on {day} I go to {to}: when is the ferry",
    ),
    "ferry_np": (
        "the ferry times to {to} on {day}", "when the ferry to {to} leaves on {day}",
        "the times of the {day} ferry to {to}", "when ferries go to {to} on {day}",
        "the ferries to {to} on {day}", "the hours of the ferry to {to} on {day}",
        "when I can go to {to} on {day}", "the {day} ferries to {to}",
    ),
    "tide_q": (
        "when is high (water|tide) on {day}", "what (is|are) the tide(s|) on {day}",
        "when is low (water|tide) on {day}", "when are high and low (water|tide) on {day}",
        "how is the tide on {day}", "on {day}, when is (high|low) (water|tide)",
        "at what hour is (high|low) water on {day}", "what tides do we have on {day}",
        "what does the water do on {day}", "when is the water (high|low) on {day}",
    ),
    "tide_np": (
        "the tide(s|) (on|of|for) {day}", "{day}'s tide(s|)", "when high water is on {day}",
        "when low water is on {day}", "high and low water on {day}", "the hours of the tide on {day}",
        "when the water is high on {day}", "the high and low tide on {day}",
    ),
    "ship_q": (
        "where is the {ship} and who is its captain", "where does the {ship} lie",
        "who is the captain of the {ship}", "who commands the {ship}", "where is the {ship}",
        "at which berth (is|lies) the {ship}", "which berth has the {ship}",
        "where do I find the {ship}", "who is captain of the {ship} and where does it lie",
        "what berth is the {ship} at", "whose ship is the {ship}", "where can I see the {ship}",
    ),
    "ship_np": (
        "the berth of the {ship}", "the captain of the {ship}", "where the {ship} lies",
        "the berth and (the |)captain of the {ship}", "who commands the {ship}",
        "where the {ship} is", "who is captain of the {ship}", "the {ship}'s berth",
        "the {ship}'s captain and berth", "the name of the {ship}'s captain",
    ),
    # verb phrases (vp) that ask for a writing call
    "message_vp": (
        "tell {to}: {text}", "send {to} this message: {text}", "send {to} a message: {text}",
        "let {to} know: {text}", "write to {to}: {text}", "take this message to {to}: {text}",
        "bring {to} this message: {text}", "send this to {to}: {text}", "tell {to} this: {text}",
        "message {to}: {text}", "give {to} this message: {text}", "say to {to}: {text}",
    ),
    "order_vp": (
        "order {some} (from|at) the {shop} for {name}", "order {some} for {name} (from|at) the {shop}",
        "buy {some} for {name} at the {shop}", "place an order for {some} at the {shop} for {name}",
        "for {name}, order {some} from the {shop}", "get {name} {some} from the {shop}",
        "get {some} from the {shop} for {name}", "order {name} {some} from the {shop}",
        "put in an order at the {shop} for {name}: {some}", "at the {shop}, order {some} for {name}",
        "have the {shop} send {name} {some}",
    ),
    "book_vp": (
        "book a berth for the {ship}, captain {captain}, for {stay}",
        "book the {ship} under {captain} a berth for {stay}",
        "get the {ship} a berth for {stay}, captain {captain}",
        "book {stay} for the {ship}, the captain is {captain}",
        "for captain {captain}, book a berth for the {ship}, {stay}",
        "take a berth for the {ship} of captain {captain}, {stay}",
        "find a berth for the {ship} for {stay}, the captain is {captain}",
        "book a berth, {stay}, for {captain}, captain of the {ship}",
    ),
    "pay_vp": (
        "pay {name} {n} coins", "pay {n} coins to {name}", "give {name} {n} coins",
        "give {n} coins to {name}", "send {name} {n} coins", "pay {name} the {n} coins we owe",
        "pay out {n} coins to {name}", "take {n} coins to {name}", "pay the {n} coins to {name}",
    ),
    "mail_vp": (
        "read {person}'s mail", "read the mail of {person}", "read the mail for {person}",
        "open {person}'s mail", "look at {person}'s mail", "check {person}'s mail",
        "read me {person}'s mail", "look into the mail of {person}", "see the mail of {person}",
    ),
    "mail_q": (
        "what does {person}'s mail say", "what is in {person}'s mail", "what mail does {person} have",
        "what is in the mail for {person}", "is there mail for {person}, and what does it say",
        "who writes to {person}, and what", "what does the mail of {person} say",
        "what came in the mail for {person}", "what do they write to {person}",
    ),
    # requests whose calls depend on each other
    "captain_message": (
        "<do>find the captain of the {ship} and tell (them|the captain): {text}",
        "<do>tell the captain of the {ship}: {text}",
        "<do>send (this message to the captain of the {ship}|the captain of the {ship} this message): {text}",
        "<do>let the {ship}'s captain know: {text}", "message for the captain of the {ship}: {text}",
        "who is captain of the {ship}? <do>tell them: {text}",
        "the captain of the {ship} must know this: {text}",
        "<do>look up who commands the {ship} and send this message: {text}",
        "I do not know the captain of the {ship}. <do>tell them: {text}",
        "this message is for the {ship}'s captain: {text}",
    ),
    "captain_order": (
        "<do>order {some} from the {shop} for the captain of the {ship}.",
        "the captain of the {ship} (wants|needs) {some} from the {shop}. <do>order them.",
        "<do>find the captain of the {ship} and order {some} from the {shop} in that name.",
        "<do>order {some} at the {shop}. It is for the {ship}'s captain.",
        "who commands the {ship}? <do>order {some} from the {shop} for them.",
        "for the captain of the {ship}: {some} from the {shop}. <do>place the order.",
        "<do>get the captain of the {ship} {some} from the {shop}.",
    ),
    "captain_pay": (
        "<do>pay the captain of the {ship} {n} coins.", "<do>pay {n} coins to the {ship}'s captain.",
        "we owe the captain of the {ship} {n} coins. <do>pay them.",
        "<do>find who commands the {ship} and pay them {n} coins.",
        "<do>give {n} coins to the captain of the {ship}.",
        "the {ship}'s captain is owed {n} coins: <do>pay.",
        "who is captain of the {ship}? <do>pay them {n} coins.",
    ),
    "captain_book": (
        "<do>book a berth for the {ship} for {stay}. Look up its captain.",
        "the {ship} wants to stay {stay} more. <do>find its captain and book a berth.",
        "<do>book {stay} for the {ship}. I do not know who the captain is.",
        "<do>find the captain of the {ship}, then book it a berth for {stay}.",
        "a berth for the {ship}, {stay}, under its captain's name, please.",
        "<do>book a berth for the {ship}, {stay}, in the name of its captain.",
        "who commands the {ship}? <do>book a berth in that name for {stay}.",
    ),
    "cheaper_order": (
        "<do>order {some} for {name} where (they are|it is) cheaper, the {shop} or the {other}.",
        "{name} needs {some}. Is the {shop} or the {other} cheaper? <do>order there.",
        "<do>compare the {shop} and the {other} and order {some} for {name} at the lower price.",
        "<do>check the price of {a_good} at the {shop} and the {other}. Then order {some} for {name} where it is lower.",
        "who asks less for {a_good}, the {shop} or the {other}? <do>order {some} there for {name}.",
        "order for {name}: {some}, from the {shop} or the {other}, the one that asks less.",
        "<do>buy {some} for {name} at the cheaper of the {shop} and the {other}.",
        "{some} for {name}, please. Take the {shop} or the {other}, at the better price.",
    ),
    "stock_order": (
        "does the {shop} have {some}? If so, <do>order them for {name}.",
        "<do>check that the {shop} has {some}, then order them for {name}.",
        "{name} wants {some} from the {shop}. <do>check the stock first, then order.",
        "if the {shop} has {some}, <do>order them for {name}.",
        "<do>order {some} for {name} from the {shop}, but only if it has that many.",
        "<do>look at the {shop}'s stock of {goods}. If there are {n}, order {n} for {name}.",
        "are there {some} at the {shop}? Then <do>order them in the name of {name}.",
        "<do>see how many {goods} the {shop} has and, if it is enough, order {n} for {name}.",
    ),
    "price_order": (
        "<do>order {some} for {name} from the {shop} if {a_good} costs {limit} coins or less.",
        "if {a_good} at the {shop} is {limit} coins or less, <do>order {some} for {name}.",
        "{name} wants {some} from the {shop}, but pays at most {limit} coins for each. <do>order if the price is right.",
        "<do>check the price of {a_good} at the {shop}. Up to {limit} coins, order {some} for {name}.",
        "does {a_good} cost more than {limit} coins at the {shop}? If not, <do>order {some} for {name}.",
        "{some} for {name} from the {shop}, please, but not if {a_good} costs more than {limit} coins.",
        "<do>order {name} {some} at the {shop}, at {limit} coins each or less.",
    ),
    "price_pay": (
        "<do>pay {name} the price of {a_good} at the {shop}.",
        "{name} brought me {a_good}. <do>pay what the {shop} asks for it.",
        "<do>find what {a_good} costs at the {shop} and pay {name} that much.",
        "I owe {name} for {a_good} from the {shop}. <do>pay it.",
        "how much is {a_good} at the {shop}? <do>pay {name} as much.",
        "<do>give {name} as many coins as {a_good} costs at the {shop}.",
        "<do>look up the {shop}'s price for {a_good} and pay it to {name}.",
    ),
    "tide_book": (
        "if high water on {day} is before {hour}, <do>book a berth for the {ship}, captain {captain}, for {stay}.",
        "<do>read the tide of {day}. If high water is before {hour}, book the {ship} under {captain} for {stay}.",
        "the {ship}, captain {captain}, comes on {day} for {stay}, but only if high water is before {hour}. <do>book it.",
        "is high water on {day} before {hour}? Then <do>book a berth for the {ship}, captain {captain}, {stay}.",
        "<do>book {stay} for the {ship} of captain {captain}, if high water on {day} is before {hour}.",
        "check the tide on {day}: with high water before {hour}, <do>book the {ship} a berth, {stay}, captain {captain}.",
        "<do>book a berth for captain {captain} of the {ship}, {stay}, unless high water on {day} is at {hour} or later.",
    ),
    "report": (
        "<do>tell {to} {what}.", "<do>find {what} and tell {to}.", "<do>let {to} know {what}.",
        "{to} wants to know {what}. <do>send a message.", "<do>send {to} a message with {what}.",
        "{to} asked about {what}. <do>tell {to}.", "<do>look up {what} and send it to {to}.",
        "<do>check {what}, then message {to}.", "a message for {to}, please: {what}.",
        "<do>write {to} {what}.", "{to} must hear {what}. <do>send a message.",
    ),
    "tail_message": (
        " Then tell {to}: {text}.", " After that, let {to} know: {text}.",
        " And tell {to}: {text}.", " When it is done, send {to} this message: {text}.",
        " Send {to} a message then: {text}.", " {to} must know: {text}.", " Then write to {to}: {text}.",
    ),
    "tail_pay": (
        " Then pay {name} {n} coins.", " After that, pay {n} coins to {name}.",
        " And then give {name} {n} coins.", " When it is done, pay {name} {n} coins.",
        " Also pay {name} {n} coins then.",
    ),
    "which_cheaper": (
        "(which|who) is cheaper for {a_good}, the {shop} or the {other}?",
        "where is {a_good} cheaper, at the {shop} or at the {other}?",
        "do I buy {a_good} at the {shop} or the {other}? I want to pay less.",
        "<get> which of the {shop} and the {other} asks less for {a_good}.",
        "compare the price of {a_good} at the {shop} and the {other}.",
        "who asks less for {a_good}, the {shop} or the {other}?",
        "I need {a_good}. Is the {shop} or the {other} the cheaper shop?",
        "who has the lower price for {a_good}: the {shop} or the {other}?",
    ),
    "and_shop": (
        "and at the {shop}?", "and the {shop}?", "what about the {shop}?", "the same at the {shop}?",
        "how about the {shop}?", "and in the {shop}, please?", "now the {shop}, please.",
        "is it the same at the {shop}?", "and what does the {shop} ask?",
    ),
    "and_day": (
        "and on {day}?", "what about {day}?", "and {day}?", "the same for {day}?", "how about {day}?",
        "now {day}, please.", "and what is it on {day}?", "I can also come on {day}.",
    ),
    # errors
    "price_anywhere": (
        "what does {a_good} cost(| here)?", "how much is {a_good}?", "<get> the price of {a_good}.",
        "I need {a_good}. What does it cost?", "what must I pay for {a_good}?",
        "how many coins for {a_good}?", "<get> what {a_good} costs.", "what do they ask for {a_good}?",
    ),
    "or_elsewhere": (
        " If they do not sell it, try another shop.", " If not there, then in another shop.",
        " Or in another shop that sells it.", " Another shop will do too.",
        " If it is not for sale there, find a shop that sells it.",
    ),
    "or_as_many": (
        " If there are not so many, take what they have.", " Or as many as they have.",
        " If they have less, order all of them.", " Less is fine too, then take them all.",
        " If that is too many, take as many as there are.",
    ),
    "or_next_day": (
        " If there is no ferry, take the first day in the week that has one.",
        " If none goes, tell me the first day with a ferry.",
        " Or else the first day of the week with a ferry.",
        " If there is none on {day}, the first other day will do.",
    ),
    # no tool
    "greeting": (
        "hello", "hi", "good morning", "good evening", "thank you", "thanks", "thank you very much",
        "hi there", "hello there", "hello clerk", "good day", "many thanks", "thanks for the help",
        "hello again", "morning", "thanks, that is all", "good night", "goodbye", "bye",
    ),
    "odd_job": (
        "paint my {thing} {colour}", "sing a song about the {ship}", "mend the {thing}",
        "carry my {thing} to the {shop}", "cook some {food} for {name}", "wash the {thing}",
        "clean the {shop}", "feed the {animal}", "find my {animal}", "draw a map to the {shop}",
        "bring the {animal} to {name}", "open the door of the {shop}", "light the lamp on the pier",
        "call a doctor for {name}", "ring the bell at {hour}", "repair the {ship}", "sell my {thing}",
        "cut down the tree at the {shop}", "wake {name} at {hour}", "stop the rain", "count the {animal}s",
        "hire {name} for the {shop}", "load the {ship} with {food}", "teach {name} to read",
        "move the {ship} to berth {n}", "turn off the lighthouse", "take a picture of the {ship}",
        "plant a flower at the {shop}", "load the {goods} onto the {ship}", "close the {shop} on {day}",
    ),
    "odd_question": (
        "what will the weather be on {day}", "how old is {name}", "how far is it to {to}",
        "how many people live on {to}", "what is the name of {name}'s {animal}", "will it rain on {day}",
        "who won the race on {day}", "how many fish are in the sea", "how deep is the harbour",
        "what did {name} eat on {day}", "how fast is the {ship}", "how warm is the water on {day}",
        "what colour is the {ship}", "how long is the {ship}", "does {name} love {other_name}",
        "where was {name} born", "what does {name} think of the {shop}", "how heavy is the {ship}",
    ),
    # mail
    "do_mail": (
        "{mail} and do what it (asks|says).", "do what {person}'s mail asks.",
        "{mail}. If it asks for something, do it.", "{mail} and act on it.",
        "please do what the mail of {person} says.", "{mail} and carry it out.",
        "whatever {person}'s mail asks, do it.", "{mail}, then do as it says.",
    ),
    "do_it": (
        "do what it asks.", "do it.", "please do what the mail says.", "good, do that.",
        "do as it says, please.", "yes, do it.", "then do what it asks for.", "carry it out.",
        "fine. Do what {sender} asks.",
    ),
    "mail_only": (
        "", "", "", "", " Only tell me what it says.", " Do not act on it.", " I only want to know.",
        " Just read it to me.",
    ),
    "dictated_order": (
        "{name} wants {some} by {day}.", "write down an order: {some} for {name}, {day}.",
        "order of {name}: {some}, for {day}.", "on {day} {name} comes for {some}.",
        "{some} for {name} on {day}, please.", "this is {name}. I need {some} on {day}.",
        "{name} will take {some} on {day}.", "by {day}, {name} needs {some}.",
    ),
}  # fmt: skip

THINGS = ("boat", "house", "wall", "door", "table", "chair", "net", "sail", "coat", "clock", "bed")
FOODS = ("fish", "soup", "rice", "bread", "tea", "meat", "fruit", "cheese")
ANIMALS = ("cat", "dog", "horse", "cow", "bird", "seal")

SYMBOL = re.compile(r"<(\w+)>")
CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")


def phrase_held_out(symbol: str, phrase: str) -> bool:
    """Return whether no training sentence may use this phrase of a list."""
    if len(set(GRAMMAR[symbol])) < 5:
        return False
    return zlib.crc32(f"{symbol}|{phrase}".encode()) % HELD_OUT_SHARE == 0 and phrase != ""


def choose(rng: random.Random, symbol: str, test: bool) -> str:
    """Return a phrase of a list; in training never a held-out one, in test often one."""
    phrases = GRAMMAR[symbol]
    held = [phrase for phrase in phrases if phrase_held_out(symbol, phrase)]
    if test and held and rng.random() < HELD_OUT_USE:
        return rng.choice(held)
    return rng.choice(phrases if test else [p for p in phrases if p not in held])


def expand(rng: random.Random, text: str, test: bool) -> str:
    """Return the text with every symbol replaced by a phrase and every choice made."""
    while match := SYMBOL.search(text):
        text = text[: match.start()] + choose(rng, match[1], test) + text[match.end() :]
    while match := CHOICE.search(text):
        text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
    return text


def capital(text: str) -> str:
    """Return the text with its first letter and every sentence's first letter in upper case."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)
