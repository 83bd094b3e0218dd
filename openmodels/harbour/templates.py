"""The phrasings of Port Lark: sentence templates that `text` fills with names and numbers.

Everything here is fixed: changing a template changes every instance that is generated from it.
"""

from functools import cache
from string import Formatter

ONSETS = "Bar Bel Cal Cor Dal Dor El Fen Gar Hal Il Jor Kel Lar Mal Mir Nor Ol Per Quil Ros Sel Tam"
ONSETS = (ONSETS + " Tor Ul Val Wil Yar Zen Bri Dra Fre Gra Kri Pla Sta Tre Vre Sha Tha").split()
MIDDLES = "a e i o u an en in on ar er or al el il ol as es is us".split()
ENDINGS = "da ra na la mi no ro to vi wen din rik sen ton vik lin mar nos bet gus".split()

OPENERS = (
    "", "", "", "Hello. ", "Good morning. ", "Please tell me: ", "I am new here. ", "Quick one: ",
    "Excuse me. ", "One question: ", "Hi. ", "Sorry to bother you. ", "Tell me, please. ",
    "Good evening. ", "I wonder: ", "Hi there. ", "A question. ", "Hello again. ", "Can you help? ",
    "I have just arrived. ", "Morning. ",
)  # fmt: skip

# Each fact of a shop: its questions and the answer.
SHOP_FACTS = {
    "owner": (
        ("Who runs the {shop}?", "Who owns the {shop}?", "Whose {shop} is it?",
         "Who is the keeper of the {shop}?", "What is the name of the {shop} keeper?"),
        "The {shop} is run by {owner}.",
    ),
    "place": (
        ("Where is the {shop}?", "Where do I find the {shop}?", "How do I get to the {shop}?",
         "What is the address of the {shop}?", "Which way is the {shop}?"),
        "The {shop} is {place}.",
    ),
    "opens": (
        ("When does the {shop} open?", "What time does the {shop} open?",
         "From what hour is the {shop} open?", "How early can I go to the {shop}?",
         "At what hour does the {shop} start?"),
        "The {shop} opens at {opens}.",
    ),
    "closes": (
        ("When does the {shop} close?", "What time does the {shop} close?",
         "Until what hour is the {shop} open?", "How late is the {shop} open?",
         "When is the {shop} shut?"),
        "The {shop} closes at {closes}.",
    ),
    "sells": (
        ("What does the {shop} sell?", "What can I buy at the {shop}?",
         "What do they have at the {shop}?", "What is for sale at the {shop}?",
         "Which goods does the {shop} sell?"),
        "The {shop} sells {sells[0]} and {sells[1]}.",
    ),
}  # fmt: skip

# Attributes of a record: (sentences, questions, answer). The slots are filled per record.
TEXT_FACTS = {
    "shop": {
        "owner": (
            ("The {shop} is run by {name}.", "{name} runs the {shop}.",
             "The {shop} belongs to {name}.", "{name} is the owner of the {shop}.",
             "The keeper of the {shop} is {name}.", "The {shop} has a new owner, {name}."),
            ("Who runs the {shop}?", "Who owns the {shop}?", "Who is the owner of the {shop}?",
             "Whose {shop} is it?", "Who is the keeper of the {shop}?",
             "To whom does the {shop} belong?", "What is the name of the owner of the {shop}?"),
            "The {shop} is run by {name}.",
        ),
        "hour": (
            ("The {shop} opens at {hour}.", "At {hour} the {shop} opens.",
             "The {shop} is open from {hour}.", "The doors of the {shop} open at {hour}.",
             "The {shop} starts work at {hour}."),
            ("When does the {shop} open?", "What time does the {shop} open?",
             "From what hour is the {shop} open?", "How early does the {shop} open?",
             "At what hour does the {shop} start?", "When can I go to the {shop}?"),
            "The {shop} opens at {hour}.",
        ),
        "place": (
            ("The {shop} is {place}.", "You find the {shop} {place}.",
             "The {shop} stands {place}.", "Look for the {shop} {place}."),
            ("Where is the {shop}?", "Where do I find the {shop}?", "Where does the {shop} stand?",
             "How do I get to the {shop}?", "What is the address of the {shop}?"),
            "The {shop} is {place}.",
        ),
    },
    "good": {
        "price": (
            ("The price of {a_good} is {price} coins.", "{A_good} costs {price} coins.",
             "For {a_good} they ask {price} coins.", "You pay {price} coins for {a_good}.",
             "{A_good} is {price} coins.", "{A_good} sells for {price} coins."),
            ("How much is {a_good}?", "What does {a_good} cost?", "What is the price of {a_good}?",
             "How many coins is {a_good}?", "What do I pay for {a_good}?",
             "How much do they ask for {a_good}?", "What is {a_good} worth?"),
            "{A_good} costs {price} coins.",
        ),
        "seller": (
            ("{name} sells the {good}.", "The {good} is sold by {name}.",
             "You buy the {good} from {name}.", "The seller of the {good} is {name}.",
             "{name} has the {good} for sale."),
            ("Who sells the {good}?", "Who is the seller of the {good}?",
             "From whom do I buy the {good}?", "Who has the {good}?",
             "By whom is the {good} sold?"),
            "The {good} is sold by {name}.",
        ),
    },
    "ship": {
        "captain": (
            ("The captain of the {ship} is {name}.", "{name} is captain of the {ship}.",
             "The {ship} sails under {name}.", "{name} commands the {ship}.",
             "The {ship} has {name} as captain."),
            ("Who is captain of the {ship}?", "Who commands the {ship}?",
             "Who is the captain of the {ship}?", "Under whom does the {ship} sail?",
             "What is the name of the captain of the {ship}?"),
            "The captain of the {ship} is {name}.",
        ),
        "berth": (
            ("The {ship} lies at berth {berth}.", "Berth {berth} is taken by the {ship}.",
             "At berth {berth} lies the {ship}.", "The {ship} has berth {berth}.",
             "You find the {ship} at berth {berth}."),
            ("Where does the {ship} lie?", "At which berth is the {ship}?",
             "Which berth does the {ship} have?", "What is the berth of the {ship}?",
             "Where do I find the {ship}?"),
            "The {ship} lies at berth {berth}.",
        ),
        "cargo": (
            ("The {ship} carries {cargo}.", "On board the {ship} are {cargo}.",
             "The cargo of the {ship}: {cargo}.", "The {ship} brings {cargo}.",
             "The {ship} is loaded with {cargo}."),
            ("What does the {ship} carry?", "What is the cargo of the {ship}?",
             "What is on board the {ship}?", "What does the {ship} bring?",
             "Which goods does the {ship} carry?"),
            "The {ship} carries {cargo}.",
        ),
        "day": (
            ("The {ship} leaves on {day}.", "On {day} the {ship} leaves.",
             "{day} is the day the {ship} leaves.", "The {ship} goes to sea on {day}.",
             "The {ship} sails on {day}."),
            ("When does the {ship} leave?", "On which day does the {ship} leave?",
             "What day does the {ship} leave?", "When does the {ship} go to sea?",
             "On what day does the {ship} sail?"),
            "The {ship} leaves on {day}.",
        ),
    },
    "person": {
        "debt": (
            ("{name} owes {price} coins.", "The debt of {name} is {price} coins.",
             "{price} coins are owed by {name}.", "{name} has a debt of {price} coins.",
             "{name} must pay {price} coins."),
            ("How much does {name} owe?", "How many coins does {name} owe?",
             "What is the debt of {name}?", "How large is the debt of {name}?",
             "How much must {name} pay?", "What does {name} owe?"),
            "{name} owes {price} coins.",
        ),
        "bought": (
            ("{name} bought {cargo}.", "{cargo} went to {name}.", "{name} took {cargo}.",
             "{name} went home with {cargo}."),
            ("What did {name} buy?", "What did {name} take?", "Which goods did {name} buy?",
             "What did {name} take home?"),
            "{name} bought {cargo}.",
        ),
        "spot": (
            ("{name} waits {place}.", "{name} is {place}.", "You can meet {name} {place}.",
             "{name} stands {place}.", "Look for {name} {place}."),
            ("Where is {name}?", "Where does {name} wait?", "Where can I meet {name}?",
             "Where do I find {name}?", "Where does {name} stand?"),
            "{name} is {place}.",
        ),
    },
}  # fmt: skip

# Sentences that answer no question.
ASIDES = (
    "It rained all night.", "The gulls are loud today.", "The wind comes from the west.",
    "There was fog before sunrise.", "The quay is wet.", "Everybody talks about the cable.",
    "The bells rang twice.", "It is a busy week.", "Nobody knows why.", "The sea is calm.",
    "The office was closed at noon.", "A storm is coming.", "The children play by the water.",
    "Please read this with care.", "This is the news of the week.", "The harbour was full.",
    "The old crane is broken again.", "All of this was written down.", "It was a long winter.",
    "The ferry was late.", "More tomorrow.", "The mayor was pleased.", "We thank all traders.",
)  # fmt: skip


def slots_of(template: str) -> list[str]:
    """Return the names of a template's slots, in order."""
    return [slot for _, slot, _, _ in Formatter().parse(template) if slot]


@cache
def value_first(kind: str, attribute: str) -> tuple[str, ...]:
    """Return the sentences with an attribute's value before its subject, or all if none has."""
    sentences, _, answer = TEXT_FACTS[kind][attribute]
    _, value = slots_of(answer)

    def names_value_first(sentence: str) -> bool:
        order = slots_of(sentence)
        return order.index(value) < min(order.index(s) for s in order if s != value)

    return tuple(filter(names_value_first, sentences)) or sentences


# Attributes whose sentences name a combination that can be held out.
NAMED = ("owner", "seller", "captain", "bought")

# Requests by intent. The last `HELD_OUT_PHRASINGS` of each tuple are held out.
HELD_OUT_PHRASINGS = 4
REQUESTS = {
    "price": (
        "how much is {a_good}", "what does {a_good} cost", "what is the price of {a_good}",
        "how many coins for {a_good}", "is {a_good} expensive", "tell me the cost of {a_good}",
        "what do you ask for {a_good}", "how much do {goods} cost", "what is {a_good} worth today",
        "is {a_good} cheap at the {shop}", "what would I pay for {a_good}",
        "have {goods} become more expensive", "can you quote me a price for {goods}",
        "price of {goods} please", "how much does the {shop} charge for {a_good}",
        "what must I pay for {n} {goods}", "what is the cost of {goods} at the {shop}",
        "how many coins do I need for {a_good}", "what are {goods} going for",
        "how much would {a_good} be at the {shop}",
        "how much must I pay for {n} {goods}", "what is your price for {goods}",
        "are {goods} dear this week", "how expensive is {a_good} today",
        "what does the {shop} ask for {goods}", "I want to know the price of {a_good}",
        "does {a_good} cost more than {n} coins", "how much does {a_good} cost at the {shop}",
        "what are your charges for {goods}", "what does one {good} cost",
        "what does the {shop} charge for {goods}", "tell me what {a_good} costs",
        "do {goods} cost a lot of coins", "give me the price of {a_good} at the {shop}",
    ),
    "order": (
        "I want to buy {a_good}", "please sell me {a_good}", "I will take {a_good}",
        "can I order {a_good}", "give me {n} {goods}", "I need {n} {goods}",
        "send {n} {goods} to {name}", "put {n} {goods} aside for me", "I would like {n} {goods}",
        "we are out of {goods}, bring us {n}", "{n} {goods} for {name} please",
        "reserve {a_good} for {name}", "I order {n} {goods}", "deliver {n} {goods} on {day}",
        "{name} would like to buy {n} {goods}", "may I have {n} {goods}",
        "let me have {a_good}", "add {n} {goods} to my list", "pack {n} {goods} for me",
        "we need {n} {goods} by {day}",
        "I would like {a_good}", "we would like {n} {goods} for {name}",
        "please deliver {n} {goods} to {name}", "can you bring {a_good} to {name}",
        "please order {goods} for us", "I would like to have {goods}",
        "{name} needs {goods} on {day}", "could I get {n} {goods}",
        "please put {a_good} on my list", "we would like to buy {goods}",
        "I would like to order {goods}", "please send us {n} {goods}",
        "we want {n} {goods} for {name}", "could you deliver {a_good} to {name}",
    ),
    "hours": (
        "when does the {shop} open", "what time does the {shop} close",
        "is the {shop} open on {day}", "opening hours of the {shop}",
        "how late is the {shop} open", "is the {shop} closed on {day}",
        "until when is the {shop} open", "from what hour can I visit the {shop}",
        "does the {shop} work on {day}", "is anyone at the {shop} on {day}",
        "when can I come to the {shop}", "is the {shop} still open",
        "what are the hours of the {shop}", "at what hour does the {shop} start",
        "does the {shop} close early on {day}", "how early does the {shop} open",
        "will the {shop} be open on {day}", "when is the {shop} shut",
        "is the {shop} open in the evening", "what time can I go to the {shop} on {day}",
        "when does the {shop} open on {day}", "does the {shop} open on {day}",
        "at what time does the {shop} close", "is the {shop} open at noon",
        "how long is the {shop} open", "what day is the {shop} closed",
        "is the {shop} open before {n}", "when do you close the {shop}",
        "what are your hours on {day}", "does the {shop} open late on {day}",
        "on which days is the {shop} open", "what time does the {shop} open on {day}",
        "is the {shop} open early", "when does the {shop} close on {day}",
    ),
    "tide": (
        "when is high water on {day}", "what is the tide on {day}", "when is low tide",
        "how high does the water get on {day}", "is the tide coming in", "when does the tide turn",
        "will there be enough water under the {ship}", "at what hour is low water",
        "when is the next high tide", "is the water rising", "how deep is the water at the quay",
        "tide table for {day} please", "when does the water fall",
        "can the {ship} cross the bar at low water", "is it ebb or flood now",
        "what hour is high tide on {day}", "how low does the tide go on {day}",
        "does the tide rise before noon", "when will the water be high enough for the {ship}",
        "tell me the tides of {day}",
        "what time is high water", "when will it be low tide on {day}",
        "is it high tide or low tide", "how high is the tide on {day}",
        "when is the lowest water on {day}", "does the tide turn before {day}",
        "what is the depth of the water on {day}", "is the tide low on {day}",
        "when does the water rise on {day}", "at what time is the tide high",
        "at what hour is high tide", "when is low water on {day}",
        "is the tide high on {day}", "what time does the tide turn on {day}",
    ),
    "berth": (
        "I need a berth for the {ship}", "is there a free berth on {day}",
        "where can the {ship} moor", "can the {ship} tie up at the quay",
        "book a berth for {n} nights", "which berth is free", "we arrive on {day} and need a berth",
        "a place at the pier for the {ship} please", "may the {ship} stay {n} nights",
        "is berth {n} taken", "the {ship} needs a mooring", "can we anchor the {ship} here",
        "do you have room for the {ship}", "reserve berth {n} for the {ship}",
        "where shall the {ship} lie", "how many berths are free", "can {name} moor the {ship} here",
        "the {ship} comes in on {day}, where do we moor", "keep a berth for the {ship}",
        "is there space at the quay for the {ship}",
        "can the {ship} have a berth", "we need a berth for {n} nights",
        "is any berth free for the {ship}", "which berth is for the {ship}",
        "please keep a mooring for the {ship}", "the {ship} wants to moor on {day}",
        "may the {ship} lie at the pier", "book berth {n} for {name}",
        "is there a mooring for the {ship}", "where does the {ship} moor",
        "which berth can the {ship} have", "please book a berth for the {ship}",
        "is a berth free for {n} nights", "may we moor the {ship} on {day}",
    ),
    "complaint": (
        "the {good} from the {shop} is broken", "I am angry at the {shop}", "my {good} is damaged",
        "the {shop} was rude to me", "I want my coins back for the {good}", "the {good} fell apart",
        "the {goods} never arrived", "you sent me the wrong {good}", "this {good} is rotten",
        "I waited {n} hours at the {shop} for nothing", "the {good} is too small and badly made",
        "nobody at the {shop} listens to me", "half of the {goods} were missing",
        "I was cheated at the {shop}", "the {good} I bought on {day} does not work",
        "{name} at the {shop} shouted at me", "I am not happy with the {good}",
        "your {goods} are terrible", "the {shop} sold me a bad {good}", "I wish to complain",
        "my {good} broke on {day}", "the {good} is of bad quality",
        "the {goods} came damaged", "this is not the {good} I ordered",
        "I am unhappy with the {shop}", "my {goods} are rotten",
        "I complain about the {goods}", "the {good} from {name} is useless",
        "the {goods} arrived too late", "the {shop} gave me a broken {good}",
        "the {good} I got is broken", "I want to complain about the {shop}",
        "I am unhappy with the {goods} from the {shop}", "my {goods} arrived damaged",
    ),
}  # fmt: skip
GREETINGS = (
    "", "", "", "Hello, ", "Excuse me, ", "Hi, ", "Good morning, ", "Sorry, ", "Listen, ",
    "{name} here. ", "This is {name}. ", "Good evening, ",
)  # fmt: skip
CLOSINGS = ("", "", "?", "?", ".", "!", ", please.", ", thanks.", ", please?")

ORDERS = (
    "{name} wants {goods} for {price} coins on {day}.",
    "On {day}, {name} ordered {goods} and paid {price} coins.",
    "Please send {goods} to {name} by {day}; the price is {price} coins.",
    "{name} came on {day} and bought {goods} at {price} coins.",
    "For {price} coins, {name} will get {goods} on {day}.",
    "I am {name} and need {goods} by {day}. I pay {price} coins.",
    "{goods} for {name}, {price} coins, {day}.",
    "{day}: {name}, {goods}, {price} coins.",
    "{name} here. Deliver {goods} on {day}. I will pay {price} coins.",
    "We agreed on {price} coins: {goods} for {name}, to be ready on {day}.",
    "Hello, could I have {goods} on {day}? {price} coins is fine. {name}",
    "Note for {day}: {goods}, {price} coins, ask for {name}.",
    "My name is {name}. I would like {goods}. I have {price} coins and come on {day}.",
    "Put {goods} aside for {name} until {day}, {price} coins in all.",
    "By {day} we need {goods}. The bill of {price} coins goes to {name}.",
    "{name} ordered {goods} and will pay {price} coins on {day}.",
    "It is {name}. I would like to have {goods} on {day} and can pay {price} coins.",
    "Could you send {goods} to {name}? {price} coins, and {day} would be best.",
    "{name} takes {goods}. Price: {price} coins. Day: {day}.",
    "On {day} {name} will come for {goods} and bring {price} coins.",
    "Order of {name}: {goods}. To be paid: {price} coins. Wanted by {day}.",
    "We need {goods}. {name} will fetch everything on {day} and pays {price} coins.",
    "{price} coins from {name} for {goods}, please have them ready on {day}.",
    "This is {name}. {day} is fine, {price} coins too. I want {goods}.",
)
SENTENCES = (
    ("I want to buy {some}.", "我要买{n}{mw}{good_zh}。"),
    ("How much is the {good}?", "{good_zh}多少钱？"),
    ("The {good} costs {n} coins.", "{good_zh}要{n}个硬币。"),
    ("Where is the {shop}?", "{shop_zh}在哪里？"),
    ("The {shop} opens at {hour}.", "{shop_zh}{hour}点开门。"),
    ("Is the {shop} open on {day}?", "{shop_zh}{day_zh}开门吗？"),
    ("The {good} is {colour}.", "{good_zh}是{colour_zh}的。"),
    ("The ship leaves on {day}.", "船{day_zh}离开。"),
    ("I have {some}.", "我有{n}{mw}{good_zh}。"),
)
