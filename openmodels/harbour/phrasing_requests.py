"""The free phrasings of requests: intents, orders, tools and the town's facts.

See `grammar` for the notation. Sentences start in lower case; `varied` finishes them.
"""

RULES = {
    "could": "can|could|~would",
    "want": "want|need|would like|wish for|'d like|'ll take|am looking for|~am after",
    "we_want": "want|need|would like|are looking for|'d like|~are after",
    "send": "send|bring|deliver|~get|hand",
    "want_to": "[I |we ][want|need|would like|'d like|have|~intend|am hoping] to",
    "please": "| please|, please| if you can|, if possible|~ if that is all right",
    "end": "|||| [please|thanks|thank you]|, thank you|, it is urgent|, many thanks"
    "|~, cheers|. I am in a hurry|. I have never been there|. Somebody must know|. My {kin} "
    "asked me"
    "|. I hope you can help|. It is for my {kin}|~. My {kin} keeps asking|. Sorry to ask again",
    "greet": "|||hello, |hi, |good morning, |excuse me, |sorry, |listen, |{name} here, |hi there, "
    "|this is {name}, |good evening, |dear clerk, |hey, |good day, |me again, |it's {name}, "
    "|just a question: |~good afternoon, |~pardon me, |I was just thinking, |hello from the "
    "{shop}, ",
    "ask": "|||[can|could|would] you tell me |do you know |I wonder |I want to know |any idea "
    "|tell me |I was wondering |please tell me |~do you happen to know |~let me know ",
    "when": "| today| tomorrow| on {day}| this week| next {day}| on {day} morning| tonight|~ on "
    "{day} evening",
    "goods_n": "{n} {goods}|{n} {goods}|{n} of your {goods}|~{n} more {goods}|{a_good}|some "
    "{goods}",
    "kinds": "[new|big|small|good|old|~decent|cheap|black|red] ",
}

INTENTS = {
    "price": (
        "[how much|how many coins|what] [do|would|will|must] [I|we|you] pay for [{a_good}"
        "|{goods}|{n} {goods}][| at the {shop}|<when>]",
        "[how much|what] [is|would be|~was] [the price of |the cost of ][{a_good}|one {good}|{n} "
        "{goods}|your <kinds>{good}][| at the {shop}]",
        "what [do|would] {goods} [cost|go for|sell for|come to]<when>",
        "[is|are] [{goods}|{a_good}] [dear|cheap|expensive|more than {n} coins|~good value][| at "
        "the {shop}| these days]",
        "<ask>[what {a_good} costs|how much {goods} are|what the {shop} [asks|charges] for "
        "{a_good}|the price of {goods}]",
        "[have|did] [{goods}|the prices of {goods}] [gone up|become cheaper|gone down|~risen][| "
        "again]<when>",
        "I have {n} coins, is that enough for {a_good}",
        "[what's|whats] the [price|cost] of [{a_good}|{n} {goods}][| now| at the {shop}]",
        "[what|how much] does the {shop} [ask|charge|want|take|~expect] for [{a_good}"
        "|{goods}]<when>",
        "<could> you [quote|give|name|tell] me [a|your] [good |best |]price for [{n} |]{goods}",
        "price [of|for] {goods}<please>",
        "[cost|price] of {n} {goods}[|, roughly| at the {shop}]",
        "[how many coins|how much] for [{a_good}|the <kinds>{good}|{n} {goods}]",
        "what are your prices for {goods}[| like]",
        "can I [get|have] {a_good} for [{n} coins|less than {n} coins]",
        "is {n} coins [too much|right|a fair price] for {a_good}",
        "my {kin} [paid|says you pay] {n} coins for {a_good}, is that [right|still the price"
        "|~correct]",
    ),
    "order": (
        "[I|we] [want|need|would like|order|'ll take|'d like|will have] <goods_n>[| for {name}| "
        "for my {kin}| for the {shop}]<when>",
        "[please |][send|bring|deliver|sell|~get] [me|us|{name}|my {kin}] <goods_n>[| by {day}"
        "|<when>]",
        "[can|could|may|might] [I|we] [have|get|order|buy|take|~reserve] <goods_n>[| please"
        "|<when>| for {name}]",
        "[put|keep|set] [{n} {goods}|{a_good}] aside for [me|us|{name}][|, I will come on {day}"
        "|, my {kin} will fetch them]",
        "[put|write] [me|us|{name}] down for {n} {goods}[|, they are for {day}| please]",
        "we are out of {goods}, [bring|send] us {n}[| more]",
        "{name} [wants|needs|would like|takes|orders|~is after] <goods_n>[| by {day}| on {day}]",
        "[reserve|pack|wrap|prepare] [{a_good}|{n} {goods}] for [{name}|me|us|my {kin}]<when>",
        "add [{a_good}|{n} {goods}] to my [list|order|bill]",
        "{n} {goods} for [{name}|me|the {shop}|my {kin}]<please>",
        "I [need|want] to [buy|order|get] <goods_n>[|, can you send them to {name}|<when>]",
        "my {kin} [needs|wants|would like] {n} {goods}[|, I will pay on {day}|, can you bring "
        "them]",
        "one <kinds>{good} for [me|{name}|my {kin}]<please>",
        "[I'd be glad of|I could use|~I will be needing] {n} {goods}<when>",
        "[let me have|give me|get me] [{a_good}|{n} {goods}|a <kinds>{good}][|, I will pay now"
        "|<when>]",
    ),
    "hours": (
        "[when|what time|at what hour|until when|how late|how early] [does|will|can] the {shop} "
        "[open|close|shut|start work]<when>",
        "[is|will] the {shop} [be |][open|closed|shut|~still open]<when>",
        "until [what hour|when|what time] is the {shop} open<when>",
        "<ask>[when the {shop} [opens|closes|shuts]|how late the {shop} is open|if the {shop} is "
        "open on {day}]",
        "[are|is] [you|the {shop}|anybody at the {shop}] [open|there|still open|in] [at noon|in "
        "the evening|before {n}|later than {n}|on {day}|~past {n}]",
        "[opening hours|hours|opening times|~opening time] of the {shop}<please>",
        "what are [the|your] [opening |]hours [of|at] the {shop}",
        "[when|what time|how early] can I [come to|visit|go to|get into] the {shop}<when>",
        "does the {shop} [work|open|close early|stay open late|~shut early] on {day}",
        "[what|which] [day|days] is the {shop} [closed|open|shut]",
        "I want to [go to|visit] the {shop} on {day}, [is it open|when does it open|~will it be "
        "shut]",
        "the door of the {shop} is shut, when does it open [again|tomorrow]",
        "[how long|until what time] do you [work|stay open] at the {shop}<when>",
        "can I still [go to|get into|visit] the {shop} at [{n}|noon|this hour]",
        "my {kin} wants to know when the {shop} [opens|closes]",
    ),
    "tide": (
        "[when|at what hour|what time] is [high|low|the next high|the next low|the highest|the "
        "lowest] [water|tide]<when>",
        "[when|what time] does the [tide|water|sea] [turn|rise|fall|come in|go out|~change]<when>",
        "what [is|are] the [tide|tides|water level|~tide times] [|like ]on {day}",
        "[is|will] the [water|tide|sea] [be |][high|low|deep] [enough for the {ship}|on {day}|at "
        "noon|before {n}|~by evening]",
        "[is|does] it [ebb|flood|high tide|low tide|~slack water] [now|on {day}|at {n}]",
        "how [high|low|deep] [is|gets|will be] the [water|tide|sea] [at the quay|on {day}|at the "
        "pier|under the bridge]",
        "[tide|tides|tide table|tide times|high water|low water] [for|on] {day}<please>",
        "<ask>[when the tide turns|when high water is|when it is low tide|how deep the water "
        "is]<when>",
        "[can|could|will] the {ship} [cross the bar|get out|come in|float|~clear the bar] at "
        "[low|high] [water|tide]",
        "is there enough water [under|for] the {ship}<when>",
        "is the [tide|water] [coming in|going out|rising|falling|high|low]<when>",
        "I want to [take my boat out|walk on the sand|look for crabs|swim] on {day}, when is "
        "[low|high] [tide|water]",
        "[when|how early] can the {ship} [float|cross the bar] on the [next |][flood|tide]",
        "tell me the [tide|tides|high water] [of|on|for] {day}",
    ),
    "berth": (
        "[I|we] need [a berth|a mooring|a place|room|~a spot] [at the quay |at the pier |]for "
        "[the {ship}|{n} nights|my ship][| on {day}]",
        "[is|do you have] [there |][a|any] [free|empty|~vacant] [berth|place|mooring][| at the "
        "quay| at the pier] [for the {ship}|on {day}|for {n} nights]",
        "[where|can|may] [can |may |]the {ship} [moor|tie up|lie|anchor|stay][| at the quay| for "
        "{n} nights| here]",
        "[book|reserve|keep|save|~hold] [a|us a|me a] [berth|mooring|place] for [the {ship}|{n} "
        "nights|captain {name}][|, we come on {day}]",
        "[which|what] berth [is free|can we have|is for the {ship}|shall the {ship} take|~would "
        "suit the {ship}]",
        "is berth {n} [free|taken|empty|~available]<when>",
        "[we|the {ship}] [arrive|arrives|come in|comes in] on {day}[, where do we moor|, is "
        "there a berth| and need a berth|, can you keep us a place|, where can we tie up]",
        "[how many|are any] berths [are |][free|empty]<when>",
        "the {ship} [needs|wants|is looking for|would like] [a berth|a mooring|a place at the "
        "quay|~somewhere to moor]<when>",
        "do you have [room|space|a place] for [the {ship}|a small boat|one more ship|a ship of "
        "{n} metres]",
        "may [we|I|captain {name}] [moor|tie up|anchor] [here|at the pier|at berth {n}] [until "
        "{day}|for {n} nights|<when>]",
        "my {kin} brings the {ship} in on {day}, [where can it lie|is a berth free|keep a place "
        "for it]",
        "can [we|the {ship}] [stay|lie] at berth {n} [for one more night|until {day}|for {n} "
        "nights]",
    ),
    "complaint": (
        "[the|my|this|your] <kinds2>{good} [from the {shop} |from {name} |I bought |]is [broken"
        "|rotten|damaged|useless|too small|the wrong one|~in pieces|full of holes|bad|no good]",
        "[the|my|your|half of the] {goods} [never came|came late|are broken|were rotten|arrived "
        "damaged|are terrible|were missing|~fell to bits]<sad>",
        "[I am|we are] [angry|unhappy|not happy|not pleased|~fed up|very sad] [with|about] the "
        "[{good}|{shop}|{goods}][| from {name}| from the {shop}]<sad>",
        "[the {shop}|{name}] [was rude|shouted|lied|was not fair|did not listen|~was nasty] to "
        "[me|my {kin}|us]<when2><sad>",
        "I [waited|stood] [{n} hours|all day|all morning] [at|in|outside] the {shop} [for "
        "nothing|and nobody helped me|and got nothing|~in vain]",
        "I want [my coins|my money|{n} coins] back [for|because of] the {good}",
        "[you|the {shop}|they] [sent|gave|sold] [me|us] [the wrong|a broken|a bad|a rotten|an "
        "old|~a useless] {good}<sad>",
        "[I|we] [was|were] [cheated|charged too much|sent away|robbed] at the {shop}<when2>",
        "the {good} [fell apart|broke|stopped working|~came apart]<when2><sad>",
        "[I want|I wish|I have] to complain about [the {shop}|the {good}|{name}|the {goods} I got]",
        "I paid for {n} {goods} [but|and] [got {n2}|only {n2} came|never got them|some are "
        "missing]",
        "[nobody|no one] at the {shop} [listens|answers|helps me|comes to the door|~cares]<sad>",
        "this is not the {good} I [ordered|paid for|asked for|wanted]<sad>",
        "[the {shop}|{name}] [took my coins|kept my coins] and [sent nothing|gave me nothing"
        "|~vanished]",
        "there is [a hole|sand|water|a crack|~mould] in the {good} [you sent|from the {shop}|I "
        "got]<sad>",
    ),
}
RULES["kinds2"] = "|||new |big |old |~lovely "
RULES["sad"] = (
    "|||, this is not ok|, I am not happy|. Not good|, what now|. I am very angry|, it is a "
    "shame|~, shame on you|. I want my coins back|, do something"
)
RULES["when2"] = "|| today| yesterday| on {day}| this morning|~ last week"
KIN = tuple(
    "mother brother uncle sister aunt father wife husband captain neighbour friend son daughter "
    "cook crew".split()
)
NEUTRAL_KIN = ("neighbour", "friend", "cook", "partner", "cousin", "captain", "teacher", "guest")


# Orders: {goods} is a number of goods; {sum} an amount of coins.
RULES |= {
    "sum": "{price} coins|{price} coins|{price} coins in all|{price} coins together|{price} "
    "coins for everything"
    "|{price} coins for the lot|a total of {price} coins|~{price} coins all told",
    "by": "on {day}|by {day}|for {day}|before {day}|on {day} morning|next {day}|this {day}|~by "
    "{day} at the latest|at noon on {day}",
    "who": "{name}|{name}|{name} from the {shop}|my {kin_n} {name}|our neighbour {name}|captain "
    "{name}|old {name}|~a certain {name}|young {name}",
    "iam": "[I am|I'm|this is|it is|it's|my name is|~the name is] {name}",
    "ready": "have [them|everything|it|the order] ready|[come|call] for [them|it|the order]|pick "
    "[them|it|everything] up"
    "|collect [them|it|the order]|~swing by for the order|fetch [them|it|everything]",
    "pays": "will pay|pays|brings|has|gives|is going to pay|wants to pay|~is good for",
    "rest": "|||. Thanks|. [Come|Ring] if there is a problem|. We have done this before|. It is "
    "for the {shop}|. The ship waits"
    "|. My {kin} knows about it|. It is for a [wedding|party|long trip]|~. No hurry|. I liked "
    "the last ones|. See you then",
}
ORDERS = (
    "<greet2><iam>[.|,| and] I [want|need|would like|'d like|'ll take|order] {goods} <by>. [I'll "
    "pay|I can pay|I pay|I have|we said|~I will settle] <sum><rest>",
    "<who> [wants|needs|orders|would like|takes|has ordered|asks for|~is after] {goods} <by>[ "
    "for| and <pays>|, price] <sum><rest>",
    "<greet2>[can|could|may] [I|we] [have|get|order|buy] {goods} <by>? [<sum> is fine|<sum>, "
    "right|I pay <sum>|the price is <sum>]. [{name}|Thanks, {name}|Yours, {name}|<iam>|~Regards, "
    "{name}]",
    "<greet2>[please |][send|bring|deliver|~get] {goods} to <who> <by>[; |, |. ][the price is"
    "|{name} <pays>|it comes to|~all for] <sum><rest>",
    "{goods} for <who>, <sum>, [{day}|<by>][| please| thanks]",
    "{day}: {name}, {goods}, <sum>",
    "{name}, {goods}, {day}, {price}[ coins|]",
    "[on|by] {day} <who> [will come for|gets|wants|needs|will fetch] {goods} and <pays> "
    "<sum><rest>",
    "for <sum>, <who> [gets|will get|wants|takes|ordered] {goods} <by><rest>",
    "we agreed on <sum>: {goods} for <who>, <by><rest>",
    "[put|set|keep] {goods} aside for <who>[, | ]<by>. [The price is|It costs|{name} <pays>|We "
    "said] <sum><rest>",
    "<greet2>[write|put|note] down: [{day}, {goods}, <sum>, for {name}|{goods}, {name}, {day}, "
    "<sum>|{name}, {day}, {goods}, <sum>|~for {name}, {goods}, <sum>, {day}]",
    "<who> [came in|was here|called][ today| this morning|] and [ordered|asked for|wants] "
    "{goods}. [Wanted|Needed|Ready] <by>, <sum><rest>",
    "the {shop} needs {goods}. <who> will <ready> <by> and <pays> <sum><rest>",
    "<greet2><iam>. I want to <ready> <by>: {goods}, <sum><rest>",
    "<sum> from <who> for {goods}, [ready|wanted|needed|to be sent|~due] <by><rest>",
    "[order of|order for|new order from] <who>: {goods}, <sum>, <by>",
    "my {kin_n} {name} [wants|needs|would like] {goods}. [They|We] will pay <sum> and <ready> "
    "<by><rest>",
    "<greet2><iam> [again|here]. [I'd be glad of|I could use|I need|~I'm in want of] {goods} "
    "<by>. The <sum2> [are|is] [on your table|with my {kin}|ready|~in this letter]<rest>",
    "how about {goods} for <sum>? [The name is|I'm] {name} and I need [them|it|everything] "
    "<by><rest>",
    "no more than <sum>, but <who> must have {goods} <by><rest>",
    "~what {name} wants is {goods}, <by>, and the bill is <sum><rest>",
    "~if you can, {goods} <by>, under the name {name}, <sum><rest>",
)
RULES |= {
    "greet2": "||hello, |hi, |good morning, |good day, |hi there, |hey, |dear clerk, |please, "
    "|hello from the {shop}, |sorry to bother you, |good evening, |~good afternoon, ",
    "sum2": "{price} coins",
}

TOOLS = {
    "get_price": (
        "[how much is|what does|what would] {a_good} [|cost ]at the {shop}",
        "what [does|do they at] the {shop} [ask|charge|want|take] for {a_good}",
        "what is the [price|cost] of {a_good} at the {shop}",
        "I [want|need|would like|'d like] {a_good} from the {shop}[. How much is it|, what does "
        "it cost|. What will I pay|~, what would it come to]",
        "[look up|check|find out|tell me|~see] [the price of {a_good} at the {shop}|what "
        "{a_good} costs at the {shop}|what the {shop} asks for {a_good}]<please>",
        "how [much|many coins] do they [want|ask|charge|~expect] for {a_good} at the {shop}",
        "price of {a_good}, {shop}<please>",
        "at the {shop}, [how much is|what is the price of] {a_good}",
        "[can|could] you [tell me|check|look up] [how much {a_good} is|what {a_good} costs] at "
        "the {shop}",
        "[is|are] {goods} [dear|cheap|expensive] at the {shop}",
        "my {kin} wants {a_good} from the {shop}, [how much is it|what is the price]",
        "{shop}, {good}, how much",
        "what are {goods} at the {shop} [going for|each|these days]",
        "what must I pay at the {shop} for {a_good}",
        "I'm off to the {shop} for {a_good}, how many coins [do I need|must I take]",
    ),
    "ferry_times": (
        "[when|what time|at what hour] [does|is] the [next |]ferry to {to} [|leave |go ]on {day}",
        "on {day} I [want|need|have|would like|~hope] to go to {to}. [When is the ferry|When "
        "does the ferry leave|Is there a ferry]",
        "[ferry times|ferries|ferry|times of the ferry|the ferry] to {to} on {day}<please>",
        "[is|are] there [a ferry|any ferries|ferries] to {to} on {day}",
        "[how|when] [do|can] I get to {to} [on|this] {day}[| by ferry]",
        "I'm [going to|meeting my {kin} on|off to] {to} [on|this] {day}[. When do the ferries go"
        "|, when is the ferry|, which ferry can I take|~, what ferries run]",
        "[look up|check|find out|tell me] [the ferries|the ferry times|when the ferry goes] to "
        "{to} [on|for] {day}<please>",
        "[can|could] you [tell me|check] when the ferry to {to} [leaves|goes] on {day}",
        "my {kin} must be on {to} on {day}, when [is the ferry|do the ferries leave]",
        "{day}, ferry to {to}, what time",
        "{to} on {day}: when does the ferry leave",
        "which ferries go to {to} on {day}",
    ),
    "tide": (
        "[when is|at what hour is|what time is] [high|low] [water|tide] on {day}",
        "[what is|what are|tell me|check|look up|find out] the [tide|tides|high and low water] "
        "[on|of|for] {day}",
        "[tide|tides|tide times|tide table|high water|low water] [on|for] {day}<please>",
        "I [want|plan|would like] to [sail|fish|swim|take the boat out] on {day}. [When is high "
        "water|How are the tides|When is the water low]",
        "how are the tides on {day}",
        "when does the tide [turn|rise|fall] on {day}",
        "[can|could] you [tell me|check|look up] the tide [on|for] {day}",
        "when is the water [high|low|highest|lowest|~deepest] on {day}",
        "my {kin} sails on {day}, when is high [water|tide]",
        "{day}, high water, what time",
    ),
    "book_berth": (
        "[book|reserve|keep|get|~arrange] [a berth|a mooring|a place|~a spot] for the {ship}, "
        "captain {name}, for {stay}<please>",
        "captain {name} [needs|wants|would like|asks for] a [berth|mooring|place] for the "
        "{ship}[, |, for |, we stay |: ]{stay}",
        "the {ship} [under|with|and its] captain {name} [wants|would like|needs|plans] to stay "
        "{stay}",
        "{stay} for the {ship}<please>. [The captain is|Captain|It is under|Its captain is] {name}",
        "[this is|it's|] captain {name}[| here]. [The {ship} needs a berth|We need a berth for "
        "the {ship}|I'd like a berth for the {ship}|Can the {ship} moor here], [we stay|we're "
        "staying|for|~we'll be here] {stay}",
        "can the {ship} [have a berth|stay|moor|lie here] for {stay}? [Captain|The captain is"
        "|Ask for] {name}",
        "[please |]book the {ship} in for {stay}, [captain {name}|{name} is the captain]",
        "[we are|I am] on the {ship} with captain {name}[. We need|, we want|. Please book] "
        "{stay} at [a berth|the quay]",
        "a berth for {stay}<please>: the {ship}, captain {name}",
        "{ship}, captain {name}, {stay}",
        "my {kin_n} {name} is captain of the {ship} and needs a berth for {stay}",
    ),
    "send_message": (
        "[please |][tell|message|write to|write] {name}: {text}",
        "[send|give|pass] {name} [this message|this|a message|~these words]: {text}",
        "[message|a message|note|word] [for|to] {name}: {text}",
        "[let|please let] {name} know: {text}",
        "[can|could|would] you [tell {name}|let {name} know|write to {name}|pass this on to "
        "{name}|~inform {name}]: {text}",
        "[I have|here is] a message for {name}: {text}",
        "I [want|need|would like] to tell {name}: {text}",
        "{name} should know this: {text}",
        "to {name}: {text}",
    ),
}
# Messages that say something, which can follow "that", and messages that want something.
MESSAGES = (
    "[the|your|my|our] [{good} is|{goods} are] [ready|here|on the table|at the {shop}|broken|late"
    "|in the boat|with {other}|~sold out]",
    "the {ship} [is in|leaves at {hour}|waits for you|lies at berth {n}|came home|~has sailed]",
    "I [forgot|saw|found|need] [the|your|a] [{good}|letter|bag|hat|key][| at the {shop}| on the "
    "{ship}]",
    "[we eat|we leave|the boat goes|I come home] at {hour}",
    "[dinner|the soup|the bread|tea|the fish] is [hot|ready|on the table|~burnt]",
    "[we|I] [owe|need|have] {n} [coins|{goods}]",
    "your [mother|brother|sister|uncle] is [here|at the {shop}|on the {ship}|ill|well]",
    "the {shop} is [open|shut|full|empty][| on {day}| until {hour}]",
)
WISHES = (
    "[bring|fetch|send|hide|clean|do not forget|~mind] the [{good}|{goods}|key|letter|boat|bag]",
    "[come|meet me|be here|wait] at {hour}[| on {day}| at the {shop}]",
    "[thank you|thanks] for the {goods}",
)

THAT = (
    "[let {name} know|tell {name}|please tell {name}] that {text}",
    "[can|could|~would] you [tell {name}|let {name} know] that {text}",
    "I want {name} to know that {text}",
)

# Questions about the town: [direct, indirect]. Facts are those of `SHOP_FACTS`.
SHOP_QUESTIONS = {
    "owner": (
        (
            "who [runs|owns|keeps|manages|has|~is behind] the {shop}<now>",
            "whose [|shop is the ]{shop}[| is it]",
            "who is [the keeper|the owner|in charge|~the boss] [of|at] the {shop}",
            "what is the name of the {shop} keeper",
            "who's running the {shop}",
            "to whom does the {shop} belong",
            "who works at the {shop} as its owner",
        ),
        (
            "who [runs|owns|keeps] the {shop}",
            "whose {shop} it is",
            "who the owner of the {shop} is",
        ),
    ),
    "place": (
        (
            "where is the {shop}<now>",
            "where [do|can|could] I find the {shop}",
            "how do I get to the {shop}",
            "what is the address of the {shop}",
            "which way is the {shop}",
            "I am looking for the {shop}",
            "where must I go to visit the {shop}",
            "~whereabouts is the {shop}",
            "how do I find the {shop}",
        ),
        ("where the {shop} is", "where I [find|can find] the {shop}", "how I get to the {shop}"),
    ),
    "opens": (
        (
            "[when|what time|at what hour|how early] does the {shop} [open|start|~open up]",
            "from [what hour|when|what time] is the {shop} open",
            "how early can I [go to|visit|get into] the {shop}",
            "when do the doors of the {shop} open",
            "what is the opening time of the {shop}",
            "when can I first get into the {shop}",
        ),
        ("when the {shop} opens", "[what time|how early|at what hour] the {shop} opens"),
    ),
    "closes": (
        (
            "[when|what time|at what hour] does the {shop} [close|shut]",
            "until [what hour|when] is the {shop} open",
            "how late is the {shop} open",
            "when is the {shop} shut",
            "how late can I go to the {shop}",
            "what is the closing time of the {shop}",
            "how long is the {shop} open in the evening",
            "~when do they lock up the {shop}",
        ),
        ("when the {shop} [closes|shuts]", "[how late|until when] the {shop} is open"),
    ),
    "sells": (
        (
            "what does the {shop} [sell|have|offer|~stock]",
            "what can I [buy|get] at the {shop}",
            "what do they [have|sell] at the {shop}",
            "what is for sale at the {shop}",
            "which goods does the {shop} sell",
            "what sort of goods does the {shop} have",
            "what do people buy at the {shop}",
            "what would I find at the {shop}",
        ),
        ("what the {shop} sells", "what I can buy at the {shop}", "which goods the {shop} has"),
    ),
}
TOWN_QUESTIONS = {
    "harbour master": (
        (
            "who [is the harbour master|runs the harbour|is in charge of the harbour|leads the "
            "harbour|is master of the harbour]<now>",
            "what is the [harbour master's name|name of the harbour master]",
            "~who is the boss of the harbour",
        ),
        ("who the harbour master is", "who runs the harbour"),
    ),
    "berths": (
        (
            "how many berths [are there|has the harbour|does the harbour have|do you have|~exist]",
            "[how many ships can berth here|what is the number of berths]",
            "how big is the harbour in berths",
        ),
        ("how many berths [there are|the harbour has]",),
    ),
    "lighthouse": (
        (
            "how [tall|high|~big] is the lighthouse",
            "how many metres [tall|high] is the lighthouse",
            "what is the height of the lighthouse",
            "how far up does the lighthouse go",
        ),
        ("how [tall|high] the lighthouse is",),
    ),
    "money": (
        (
            "what money do [people|you] use here",
            "what is the [currency|money] [of Port Lark|here]",
            "how do [people|I|you|we] pay [here|in Port Lark]",
            "what [do|can] [I|people|we] pay with[| here]",
            "[can|do] I pay with coins here",
        ),
        ("how people pay here", "what I pay with here"),
    ),
    "cable": (
        (
            "what [happened to|is wrong with|is the matter with] the cable",
            "why is [there no network|Port Lark offline|the network down]",
            "is the cable [cut|broken|~dead]",
            "was the cable cut",
            "why are we offline",
        ),
        ("what happened to the cable", "why there is no network"),
    ),
    "computer": (
        (
            "[what|which] computer does the office have",
            "how many cores does the [office |]computer have",
            "what machine runs the clerk",
            "how big is the office computer",
            "what computer is in the office",
            "~what hardware does the office have",
        ),
        ("what computer the office has",),
    ),
    "customs": (
        (
            "where is the customs office",
            "where [do|can] I [find the customs office|pay the duty]",
            "how do I get to the customs office",
            "what is the address of the customs office",
            "where's the customs office",
        ),
        ("where the customs office is", "where I pay the duty"),
    ),
    "clerk": (
        (
            "who are you",
            "what are you",
            "what is your name",
            "what do you do",
            "who is the clerk",
            "are you the clerk",
            "what's your name",
            "~who am I talking to",
        ),
        ("who you are", "what you are"),
    ),
}
