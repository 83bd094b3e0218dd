"""The free phrasings of Port Lark's facts: statements, questions and remarks.

Sentences start in lower case and have no final punctuation: `Desk` joins and finishes them. See
`grammar` for the notation.
"""

RULES = {
    "tell": "can you tell me|could you tell me|do you know|tell me|please tell me|I want to know"
    "|I'd like to know|I need to know|any idea|I wonder|I was wondering"
    "|may I ask|I am trying to find out|~could you find out|~would you know|~please let me know"
    "|have you heard|can you say|who can tell me|remind me|can you check",
    "now": "| now| today| these days| this week| at the moment|~ right now|~ nowadays",
    "lately": "now |this week |today |these days |since Monday |for now |~since last week |~of "
    "late ",
    "still": "|still |now |~currently ",
    "hello": "|||hello, |hi, |good morning, |hi there, |excuse me, |sorry, |hey, |good evening, "
    "|good day, |morning, |hello again, |~good afternoon, |~pardon me, |one question: "
    "|quick question: |a small question: |I am new here, |one more thing: |well, |ok, |so, ",
    "pay": "pay|give|~hand over|~part with",
    "coins": "coins|coins|coins|~silver coins",
    "each": "|each|apiece|a piece|~per piece",
    "lies": "lies|is|is moored|is tied up|can be seen|stays|~rests|~is made fast|has moored",
    "carries": "carries|brings|has|is loaded with|came in with|is full of|has come with"
    "|~is bringing in|~is laden with|holds|transports",
    "leaves": "leaves|sails|goes|goes to sea|departs|sets sail|puts to sea|~heads out|~will be off"
    "|will leave|will sail|is due to leave|wants to leave",
    "runs": "runs|owns|keeps|looks after|has taken over|is in charge of|manages|~is now running"
    "|~is the boss of|took over|works as the keeper of|has bought|is the new owner of",
    "by": "run by|owned by|kept by|managed by|in the hands of|~looked after by|led by",
    "opens": "opens|starts|opens its doors|starts work|begins work|~unlocks its doors",
    "commands": "commands|sails|is captain of|is in command of|is master of|steers|leads"
    "|~skippers|~is in charge of|has taken command of|is the new captain of",
    "owes": "owes|still owes|must pay|has to pay|has a debt of|has yet to pay|~is in debt for"
    "|~owes us|has an open bill of|needs to pay",
    "bought": "bought|took|got|went home with|took home|carried off|has bought|~picked up|~came for"
    "|paid for|walked off with",
    "waits": "waits|stands|is|can be met|is waiting|works|sits|is standing|~hangs about|~is to "
    "be seen"
    "|spends the day|has a stall|sells things",
    "sells": "sells|has|offers|is selling|deals in|trades in|~stocks|~is offering",
    "costs": "costs|is|sells for|goes for|will cost you|comes to|is priced at|is worth"
    "|~is going for|~sets you back",
}

# Whole statements by kind and attribute, and predicates that follow the subject or a pronoun.
STATEMENTS = {
    "shop": {
        "owner": (
            "the {shop} is <still><by> {name}",
            "{name} <runs> the {shop}",
            "the {shop} [belongs to|has gone to|was sold to] {name}",
            "[the owner|the keeper|the head|~the manager] of the {shop} is <still>{name}",
            "the {shop} has a [new |]owner, {name}",
            "if you need the {shop}, [ask for|talk to] {name}",
            "{name} took over the {shop} from {other}[| last year| in spring|~ in May]",
            "it is {name} who <runs> the {shop}",
            "{other} no longer runs the {shop}; {name} does",
        ),
        "hour": (
            "the {shop} <opens> at {hour}",
            "[at|from] {hour} the {shop} is open",
            "the {shop} is open from {hour}",
            "the doors of the {shop} open at {hour}",
            "[go|come] to the {shop} at {hour}, when it opens",
            "the {shop} opens at {hour} now, not at {old_hour}",
            "<lately>the {shop} <opens> at {hour}",
            "nobody gets into the {shop} before {hour}",
            "~you can walk into the {shop} from {hour}",
            "the {shop} used to open at {old_hour}, but now it opens at {hour}",
        ),
        "place": (
            "the {shop} is [now |still |]{place}",
            "[you find|you will find|you'll find|look for] the {shop} {place}",
            "the {shop} [stands|has moved and is now|can be found] {place}",
            "{place} [is|stands|you see] the {shop}",
            "the {shop} has its rooms {place}",
            "~walk on until you see the {shop} {place}",
            "people queue {place}, where the {shop} is",
        ),
    },
    "good": {
        "price": (
            "{a_good} <costs> {price} <coins><now>",
            "the price of {a_good} is <still>{price} coins",
            "for {a_good} [you pay|they ask|they want|you need] {price} coins",
            "[you pay|people pay|traders ask|they charge] {price} coins for {a_good}",
            "{a_good} went from {old_price} to {price} coins",
            "<lately>{a_good} <costs> {price} coins",
            "{price} coins [buy|will buy|get] you {a_good}",
            "{goods} <costs_pl> {price} coins <each>",
            "{a_good} cost {old_price} coins once, but now it is {price}",
            "~you will not get {a_good} for less than {price} coins",
        ),
        "seller": (
            "{name} <sells> the {good}",
            "the {good} [is sold by|comes from|is offered by] {name}",
            "[you buy|buy|you get|get] the {good} from {name}",
            "[the seller of the {good} is|the {good} is for sale with] {name}",
            "{name} has {goods} [for sale|to sell|on the table]",
            "{name} <sells> {goods}",
            "if you want {a_good}, [go to|ask|see|~try] {name}",
            "~it is {name} who <sells> {goods}",
        ),
    },
    "ship": {
        "captain": (
            "{name} <commands> the {ship}",
            "the captain of the {ship} is <still>{name}",
            "the {ship} [sails under|has|is commanded by|~answers to] captain {name}",
            "captain {name} [brought in|came in with|arrived with|sails on] the {ship}",
            "the {ship}, under {name}, [came in|arrived|is here|~made port][| last night| today]",
            "{name} took the {ship} over from {other}",
            "the {ship} has {name} as captain",
            "{other} has left the {ship}; its captain is now {name}",
        ),
        "berth": (
            "the {ship} <lies> at berth {berth}",
            "berth {berth} [is taken by|belongs to|is for|has] the {ship}",
            "at berth {berth} <lies> the {ship}",
            "the {ship} [has|took|was given|got] berth {berth}",
            "you [find|will find|can see] the {ship} at berth {berth}",
            "the {ship} [moved|was moved|has moved|~had to go] from berth {old_berth} to berth "
            "{berth}",
            "the {ship} is no longer at berth {old_berth} but at berth {berth}",
        ),
        "cargo": (
            "the {ship} <carries> {cargo}",
            "on board the {ship} [are|we saw|there are] {cargo}",
            "the cargo of the {ship} [is|was]: {cargo}",
            "{cargo} [came in|arrived] on the {ship}",
            "[the crew|the men|~the sailors] of the {ship} brought {cargo}",
            "we [counted|saw|~noted] {cargo} on the {ship}",
            "the {ship} has {cargo} [on board|with it]",
        ),
        "day": (
            "the {ship} <leaves> on {day}",
            "on {day} the {ship} <leaves>",
            "[{day} is the day|it is on {day} that] the {ship} leaves",
            "the {ship} [stays|will stay|waits] until {day} and then [leaves|sails]",
            "the {ship} leaves on {day}, not on {old_day}",
            "~come {day}, the {ship} <leaves>",
            "the {ship} wanted to leave on {old_day} but [leaves|will leave|sails] on {day}",
        ),
    },
    "person": {
        "debt": (
            "{name} <owes> {price} <coins>",
            "the debt of {name} is <still>{price} coins",
            "{price} coins are [still |]owed by {name}",
            "the bill of {name} comes to {price} coins",
            "{name} paid {old_price} coins but still owes {price}",
            "~we still wait for {price} coins from {name}",
            "<lately>{name} <owes> {price} coins",
        ),
        "bought": (
            "{name} <bought> {cargo}",
            "{cargo} [went|were sold|~were handed] to {name}",
            "{name} came [in |early |]and <bought> {cargo}",
            "the buyer of {cargo} was {name}",
            "[yesterday|this morning|on {old_day}|at noon] {name} <bought> {cargo}",
        ),
        "spot": (
            "{name} <waits> {place}",
            "you [can |will |]meet {name} {place}",
            "[look for|go and see|find|~seek] {name} {place}",
            "{place} you [find|will see] {name}",
            "{name} is no longer at home but {place}",
        ),
    },
}
RULES["costs_pl"] = "cost|are|sell for|go for|will cost you|are priced at|~are going for"
PREDICATES = {
    "shop": {
        "owner": ("is <by> {name}", "belongs to {name}", "has {name} as owner"),
        "hour": ("<opens> at {hour}", "is open from {hour}", "is shut until {hour}"),
        "place": ("is {place}", "stands {place}", "can be found {place}"),
    },
    "good": {
        "price": ("<costs> {price} coins", "is yours for {price} coins"),
        "seller": ("is sold by {name}", "comes from {name}", "is offered by {name}"),
    },
    "ship": {
        "captain": ("is commanded by {name}", "sails under {name}", "has {name} as captain"),
        "berth": ("<lies> at berth {berth}", "has berth {berth}"),
        "cargo": ("<carries> {cargo}",),
        "day": ("<leaves> on {day}",),
    },
    "person": {
        "debt": ("<owes> {price} coins",),
        "bought": ("<bought> {cargo}",),
        "spot": ("<waits> {place}", "can be found {place}"),
    },
}
# Sentences that state two attributes at once.
PAIRS = {
    ("shop", "owner", "hour"): (
        "{name} opens [the doors of |]the {shop} at {hour}",
        "{name}, who <runs> the {shop}, opens it at {hour}",
    ),
    ("shop", "owner", "place"): (
        "{name} <runs> the {shop} {place}",
        "the {shop} {place} belongs to {name}",
    ),
    ("shop", "hour", "place"): ("the {shop} {place} <opens> at {hour}",),
    ("good", "price", "seller"): (
        "{name} <sells> {goods} for {price} coins <each>",
        "{name} [now |]asks {price} coins for {a_good}",
        "{a_good} from {name} <costs> {price} coins",
        "{name} <sells> {goods} at {price} coins <each>",
        "you get {goods} from {name} for {price} coins <each>",
    ),
    ("ship", "captain", "berth"): (
        "captain {name} has [moored|tied up|put] the {ship} at berth {berth}",
        "the {ship} lies at berth {berth} under captain {name}",
    ),
    ("ship", "captain", "cargo"): (
        "captain {name} brought {cargo} on the {ship}",
        "the {ship} of captain {name} <carries> {cargo}",
    ),
    ("ship", "berth", "cargo"): ("the {ship} at berth {berth} <carries> {cargo}",),
    ("ship", "berth", "day"): (
        "the {ship} leaves berth {berth} on {day}",
        "the {ship} <lies> at berth {berth} until it leaves on {day}",
    ),
    ("ship", "cargo", "day"): ("the {ship} takes {cargo} on board and leaves on {day}",),
    ("person", "debt", "bought"): (
        "{name} <bought> {cargo} and [still |]owes {price} coins",
        "{name}, who <bought> {cargo}, owes {price} coins",
    ),
    ("person", "bought", "spot"): ("{name}, who <bought> {cargo}, <waits> {place}",),
    ("person", "debt", "spot"): ("{name} <waits> {place} and owes {price} coins",),
}

# Direct and indirect questions.
QUESTIONS = {
    "shop": {
        "owner": (
            "who [runs|owns|keeps|manages|has|looks after|~is running] the {shop}<now>",
            "who is [the owner|the keeper|the head|in charge|~the boss] of the {shop}<now>",
            "whose {shop} is it<now>",
            "whose is the {shop}<now>",
            "who's running the {shop}",
            "to whom does the {shop} belong",
            "who does the {shop} belong to",
            "who took over the {shop}",
            "what is the [owner of the {shop} called|name of the {shop}'s owner]",
        ),
        "hour": (
            "when does the {shop} [open|start|begin|~open up]<now>",
            "[what time|at what hour|at what time|how early|from what hour] does the {shop} open",
            "from what [hour|time] is the {shop} open<now>",
            "when can I [go|come] to the {shop}",
            "when do the doors of the {shop} open",
            "how early can I [go to|get into|visit] the {shop}",
        ),
        "place": (
            "where is the {shop}<now>",
            "where [do|can|will|could] I find the {shop}<now>",
            "where does the {shop} stand",
            "how do I get to the {shop}",
            "which way is the {shop}",
            "where [must|should|~do] I go [for|to visit] the {shop}",
            "where's the {shop}",
            "what is the [address|place|~location] of the {shop}",
            "~whereabouts is the {shop}",
        ),
    },
    "good": {
        "price": (
            "how much is {a_good}<now>",
            "[what|how much|how many coins] does {a_good} cost<now>",
            "what is the price of {a_good}<now>",
            "what [do|would|must|will] I pay for {a_good}",
            "how [much|many coins] do [they|you] [ask|want|charge|~take] for {a_good}",
            "what's the price of {a_good}",
            "what is {a_good} worth<now>",
            "how expensive is {a_good}",
            "[what|how much] would {a_good} [cost me|be|~come to]",
            "how many coins [for|is] {a_good}",
            "how much are {goods}<now>",
            "what do {goods} cost",
        ),
        "seller": (
            "who [sells|has|offers|is selling|~stocks] the {good}",
            "who sells {goods}<now>",
            "who is the seller of the {good}",
            "from whom [do|can] I buy the {good}",
            "who [do|can] I [buy|get] {a_good} from",
            "by whom is the {good} sold",
            "who has {a_good} for sale",
            "whom do I ask for {a_good}",
        ),
    },
    "ship": {
        "captain": (
            "who is [the |]captain of the {ship}<now>",
            "who [commands|sails|leads|~skippers] the {ship}",
            "who is in [charge|command] of the {ship}<now>",
            "under whom does the {ship} sail",
            "who's the captain of the {ship}",
            "what is the name of the captain of the {ship}",
            "which captain [has|sails|brought] the {ship}",
            "what is the {ship}'s captain called",
        ),
        "berth": (
            "where does the {ship} lie<now>",
            "[at which|in which|what|which] berth is the {ship}<now>",
            "which berth [does the {ship} have|has the {ship}|is for the {ship}]",
            "what is the berth of the {ship}",
            "where [do|can] I find the {ship}<now>",
            "where is the {ship} [moored|tied up|lying|~berthed]",
            "where's the {ship}",
            "which berth is the {ship} [in|at]<now>",
            "what is the {ship}'s berth",
        ),
        "cargo": (
            "what does the {ship} [carry|bring|have on board|hold|~transport]",
            "what is [the cargo of|on board|on|in] the {ship}<now>",
            "which goods does the {ship} carry",
            "what did the {ship} bring",
            "what has the {ship} [got on board|brought]",
            "what is the {ship} loaded with",
            "what goods are on the {ship}",
            "what's the {ship}'s cargo",
        ),
        "day": (
            "when does the {ship} [leave|sail|go|go to sea|depart|~set sail]",
            "[on which day|on what day|what day|which day] does the {ship} [leave|sail|go to sea]",
            "when will the {ship} [leave|sail|be gone]",
            "until when does the {ship} stay",
            "when is the {ship} [leaving|sailing|~off]",
            "how long will the {ship} stay",
        ),
    },
    "person": {
        "debt": (
            "how [much|many coins] does {name} [still |]owe",
            "what does {name} [still |]owe<now>",
            "what is the debt of {name}",
            "how [large|big|high] is the debt of {name}",
            "how [much|many coins] [must|should|does] {name} [still |]pay",
            "what is {name}'s debt",
            "how much money do we get from {name}",
        ),
        "bought": (
            "what did {name} [buy|take|take home|get|~pick up]",
            "which goods did {name} [buy|take]",
            "what has {name} bought",
            "what did we sell to {name}",
            "what was sold to {name}",
        ),
        "spot": (
            "where is {name}<now>",
            "where [does {name} wait|can I meet {name}|do I find {name}]",
            "where [does {name} stand|can {name} be found|should I look for {name}]<now>",
            "where's {name}",
            "where could I see {name}",
            "~where would I find {name}",
        ),
    },
}
INDIRECT = {
    "shop": {
        "owner": (
            "who [runs|owns|keeps|has] the {shop}<now>",
            "whose {shop} it is",
            "who the owner of the {shop} is",
        ),
        "hour": (
            "when the {shop} [opens|starts]",
            "[what time|at what hour|how early] the {shop} opens",
        ),
        "place": (
            "where the {shop} is<now>",
            "where I [find|can find] the {shop}",
            "how I get to the {shop}",
        ),
    },
    "good": {
        "price": (
            "how much {a_good} [costs|is]<now>",
            "what {a_good} costs",
            "what the price of {a_good} is",
            "what I pay for {a_good}",
        ),
        "seller": (
            "who [sells|has] the {good}",
            "from whom I can buy the {good}",
            "who sells {goods}",
        ),
    },
    "ship": {
        "captain": ("who [commands|sails] the {ship}", "who the captain of the {ship} is<now>"),
        "berth": (
            "where the {ship} [lies|is]<now>",
            "[at |]which berth the {ship} [has|lies at]",
            "where I find the {ship}",
        ),
        "cargo": (
            "what the {ship} [carries|brings|has on board]",
            "what the cargo of the {ship} is",
        ),
        "day": ("when the {ship} [leaves|sails]", "on which day the {ship} leaves"),
    },
    "person": {
        "debt": ("how [much|many coins] {name} owes", "what {name} [still |]owes"),
        "bought": ("what {name} [bought|took]",),
        "spot": ("where {name} is<now>", "where I [can meet|find] {name}"),
    },
}
# Follow-ups with a pronoun, then the same question with its noun.
FOLLOW_UPS = {
    "shop": {
        "owner": (
            ("who [runs|owns|keeps] it", "who {0} the {shop}"),
            ("who is its [owner|keeper]", "who is the {0} of the {shop}"),
        ),
        "hour": (
            ("when does it [open|start]", "when does the {shop} {0}"),
            ("what time does it [open|start]", "what time does the {shop} {0}"),
        ),
        "place": (
            ("where is it", "where is the {shop}"),
            ("where [do|can] I find it", "where {0} I find the {shop}"),
        ),
    },
    "good": {
        "price": (
            ("what is its price", "what is the price of {a_good}"),
            ("how much is it", "how much is {a_good}"),
            ("what does it cost", "what does {a_good} cost"),
        ),
        "seller": (
            ("who [sells|has] it", "who {0} the {good}"),
            ("from whom [do|can] I buy it", "from whom {0} I buy the {good}"),
        ),
    },
    "ship": {
        "captain": (
            ("who is its captain", "who is the captain of the {ship}"),
            ("who [commands|sails] it", "who {0} the {ship}"),
        ),
        "berth": (
            ("where does it lie", "where does the {ship} lie"),
            ("[which|what] berth does it have", "{0} berth does the {ship} have"),
            ("where [do|can] I find it", "where {0} I find the {ship}"),
        ),
        "cargo": (
            ("what does it [carry|bring]", "what does the {ship} {0}"),
            ("what is its cargo", "what is the cargo of the {ship}"),
        ),
        "day": (
            ("when does it [leave|sail|go]", "when does the {ship} {0}"),
            ("on which day does it [leave|sail]", "on which day does the {ship} {0}"),
        ),
    },
    "person": {
        "debt": (
            ("how [much|many coins] do they owe", "how {0} does {name} owe"),
            ("what is their debt", "what is the debt of {name}"),
        ),
        "bought": (
            ("what did they [buy|take]", "what did {name} {0}"),
            ("which goods did they [buy|take]", "which goods did {name} {0}"),
        ),
        "spot": (
            ("where are they", "where is {name}"),
            ("where [do|can] I find them", "where {0} I find {name}"),
            ("where can I meet them", "where can I meet {name}"),
        ),
    },
}
# Sentences that answer no question. `other` is a name that no fact mentions.
REMARKS = (
    "[it rained|it snowed|the wind blew|there was fog][| all night| all day| in the morning|~ at "
    "dawn]",
    "the [sea|harbour|quay|street|water] [is|was] [calm|wet|busy|full|quiet|cold|~icy|dark][| "
    "today| this week]",
    "[everybody|half the town|{other}] [talks|was talking] about the [cable|storm|mayor|weather"
    "|new crane]",
    "[please |]read this with care",
    "[this is|here is] the news of the [week|day|harbour]",
    "{other} [was pleased|helped a little|knows more|had a cold|laughed|was not there|came too"
    "|~waved]",
    "the [ferry|post|mayor|cook|doctor] [was late|came early|did not come|was in a hurry|~got "
    "lost]",
    "come early|bring [a bag|your children|good shoes|a friend]",
    "[mind|watch] the [steps|ropes|dog|ice|gulls]",
    "[we|they] [thank|greet] all traders",
    "nobody knows why",
    "that is all [for today|for now|we know]",
    "my [friend|neighbour|cousin|partner] {other} [would like this|told me so|said it was fine"
    "|~swears by it]",
    "the old [crane|bell|clock|bridge] is [broken|shut|slow] again",
    "[prices|things] are [as ever|no better]",
)

# Names whose pronoun is "he"; names in -a take "she", other names "they".
MEN = frozenset(
    """
    Ahmed Alan Albert Amir Anders Anton Bruno Cecil Claude David Derek Diego Dimitri Edgar Edmund
    Emil Enzo Erik Farid Felix Frank Gaston Georg Goran Gustav Hakan Harald Hasan Henrik Hugo
    Ibrahim Igor Isaac Ivan Jakob Jens Jonas Jorge Josef Karim Karl Kasper Kemal Kenji Knut Lars
    Laszlo Leo Leon Linus Lucas Luis Magnus Malik Manuel Marco Marius Martin Mateo Max Mehmet Milan
    Murat Nils Norbert Omar Orhan Oskar Otto Pavel Pedro Piet Rafael Ragnar Rasmus Rudolf Salim
    Samuel Simon Stefan Sven Tarik Theo Timur Tomas Ulrich Valentin Victor Yusuf
    """.split()
)
# Questions about several subjects at once, and the simple question about each.
JOINT = {
    "shop": (
        ("who [runs|owns|keeps] {0}", "who {1} the {shop}"),
        ("when do {0} [open|start]", "when does the {shop} {1}"),
        ("where [are|do I find|can I find] {0}", "where is the {shop}"),
        ("what time do {0} [open|start]", "what time does the {shop} {1}"),
    ),
    "good": (
        ("how much are {0}", "how much is {a_good}"),
        ("what do {0} cost", "what does {a_good} cost"),
        ("who [sells|has|offers] {0}", "who {1} {a_good}"),
        ("what are the prices of {0}", "what is the price of {a_good}"),
    ),
    "ship": (
        ("where do {0} lie", "where does the {ship} lie"),
        ("who are the captains of {0}", "who is the captain of the {ship}"),
        ("what do {0} [carry|bring]", "what does the {ship} {1}"),
        ("when do {0} [leave|sail|go]", "when does the {ship} {1}"),
        ("who [commands|sails|leads] {0}", "who {1} the {ship}"),
        ("[which|what] berths do {0} have", "{1} berth does the {ship} have"),
    ),
    "person": (
        ("how [much|many coins] do {0} owe", "how {1} does {name} owe"),
        ("what did {0} [buy|take|get]", "what did {name} {1}"),
        ("where [are|do I find|can I meet] {0}", "where is {name}"),
    ),
}
