"""The fixed facts of Port Lark: names, goods, shops, ships and words.

Everything here is constant. What differs between instances is drawn in `text`.
"""

from dataclasses import dataclass

# Given names. Each is one token of the tokenizer, so a name costs one position to read or copy.
NAMES = tuple(
    """
    Ada Agnes Ahmed Aiko Alan Albert Alda Alma Amina Amir Amos Anders Anika Anton Arda Ariel
    Arjun Astrid August Aurora Ayla Baran Basil Beatrix Benno Berta Bilal Birgit Bjorn Bruno
    Carla Carmen Cecil Chiara Clara Claude Cora Cyril Dagmar Dalia Damir Daria David Deniz
    Derek Diego Dilan Dimitri Dora Doris Edgar Edith Edmund Eino Elena Elias Elif Elin Elsa
    Emil Emine Emma Enzo Erik Esra Esther Eva Farid Fatima Felix Fiona Flora Frank Freya Frida
    Gaston Georg Gerda Gina Goran Greta Gustav Hakan Hana Hanna Harald Hasan Hedda Heidi Helga
    Henrik Hilda Hugo Ibrahim Ida Igor Ilse Imran Ines Inga Ingrid Irene Iris Isaac Ivan Jakob
    Jana Jasmin Jens Joanna Jonas Jorge Josef Judith Julia Jun Kadir Kaito Karim Karin Karl
    Kasper Kemal Kenji Kira Klara Knut Lara Lars Laszlo Laura Leila Lena Leo Leon Leyla Lian
    Lina Linus Livia Lotte Lucas Lucia Luis Magda Magnus Malik Manuel Mara Marco Maria Marius
    Marta Martin Mateo Matilda Max Mehmet Mei Mika Milan Mira Miriam Mona Murat Nadia Naomi
    Nazim Nela Niko Nils Nina Nora Norbert Odin Olga Olivia Omar Orhan Oskar Otto Paula Pavel
    Pedro Perla Petra Piet Pilar Rafael Ragnar Raisa Ramona Rana Rasmus Rosa Rudolf Runa Ruth
    Sabine Salim Samira Samuel Sara Selim Selma Sigrid Silas Silvia Simon Sofia Sonja Stefan
    Stella Sven Tamara Tarik Tatiana Tessa Theo Thora Tilda Timur Tomas Tove Ulla Ulrich Umut
    Ursula Valentin Vera Victor Vilma Viola Wanda Wei Wilma Xenia Yara Yasmin Yuki Yusuf Zara
    Zeynep
    """.split()
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_ZH = {
    "Monday": "星期一", "Tuesday": "星期二", "Wednesday": "星期三", "Thursday": "星期四",
    "Friday": "星期五", "Saturday": "星期六", "Sunday": "星期日",
}  # fmt: skip

# good: (plural, Chinese, Chinese measure word)
GOODS = {
    "anchor": ("anchors", "锚", "个"), "apple": ("apples", "苹果", "个"),
    "barrel": ("barrels", "木桶", "个"), "basket": ("baskets", "篮子", "个"),
    "bell": ("bells", "铃", "个"), "blanket": ("blankets", "毯子", "条"),
    "book": ("books", "书", "本"), "bowl": ("bowls", "碗", "个"),
    "brush": ("brushes", "刷子", "把"), "cake": ("cakes", "蛋糕", "个"),
    "candle": ("candles", "蜡烛", "支"), "chair": ("chairs", "椅子", "把"),
    "cheese": ("cheeses", "奶酪", "块"), "clock": ("clocks", "时钟", "个"),
    "coat": ("coats", "外套", "件"), "crab": ("crabs", "螃蟹", "只"),
    "cup": ("cups", "杯子", "个"), "drum": ("drums", "鼓", "个"),
    "fish": ("fish", "鱼", "条"), "hammer": ("hammers", "锤子", "把"),
    "hat": ("hats", "帽子", "顶"), "kettle": ("kettles", "水壶", "个"),
    "knife": ("knives", "刀", "把"), "lamp": ("lamps", "灯", "盏"),
    "loaf": ("loaves", "面包", "个"), "map": ("maps", "地图", "张"),
    "net": ("nets", "渔网", "张"), "pear": ("pears", "梨", "个"),
    "rope": ("ropes", "绳子", "条"), "sail": ("sails", "帆", "张"),
}  # fmt: skip

SHIPS = (
    "Heron", "Osprey", "Marlin", "Puffin", "Albatross", "Dolphin",
    "Walrus", "Gannet", "Sturgeon", "Petrel", "Narwhal", "Cormorant",
)  # fmt: skip

PLACES = (
    "on the quay", "by the old tower", "near the bridge", "on Mill Lane",
    "beside the harbour wall", "at the market square", "on Fisher Street",
    "under the lighthouse", "next to the church", "on the north pier",
    "behind the town hall", "at the east gate",
)  # fmt: skip

ISLANDS = ("Gull Island", "Stone Isle", "Seal Rock", "North Cape", "Amber Bay", "Long Reef")


@dataclass(frozen=True)
class Shop:
    """One shop of the closed world: its owner, place, hours (o'clock) and two goods."""

    owner: str
    place: str
    opens: int
    closes: int
    sells: tuple[str, str]
    zh: str


SHOPS = {
    "bakery": Shop("Mara", "on Mill Lane", 6, 15, ("loaf", "cake"), "面包店"),
    "fishmonger": Shop("Otto", "on the quay", 7, 16, ("fish", "crab"), "鱼店"),
    "chandlery": Shop("Ines", "beside the harbour wall", 8, 18, ("rope", "anchor"), "船具店"),
    "bookshop": Shop("Piet", "next to the church", 9, 19, ("book", "map"), "书店"),
    "teahouse": Shop("Lena", "by the old tower", 10, 21, ("cup", "kettle"), "茶馆"),
    "smithy": Shop("Hugo", "at the east gate", 7, 17, ("hammer", "knife"), "铁匠铺"),
    "market": Shop("Nora", "at the market square", 5, 14, ("apple", "pear"), "市场"),
    "tailor": Shop("Emil", "on Fisher Street", 9, 18, ("coat", "hat"), "裁缝店"),
    "boatyard": Shop("Vera", "on the north pier", 6, 20, ("net", "sail"), "船厂"),
    "dairy": Shop("Jonas", "near the bridge", 5, 13, ("cheese", "bowl"), "奶店"),
    "candlery": Shop("Alma", "behind the town hall", 10, 17, ("candle", "lamp"), "蜡烛店"),
    "workshop": Shop("Felix", "under the lighthouse", 8, 19, ("chair", "drum"), "作坊"),
}

# Facts that belong to no shop: subject, questions, answer.
TOWN_FACTS = {
    "harbour master": (
        ("Who is the harbour master?", "What is the name of the harbour master?",
         "Who runs the harbour?", "Who is in charge of the harbour?",
         "Who is master of the harbour?", "Which person runs the harbour?"),
        "The harbour master is Ingrid.",
    ),
    "berths": (
        ("How many berths are there?", "How many berths does the harbour have?",
         "What is the number of berths?", "How many ships can berth here?",
         "How many berths has the harbour?", "What number of berths is there?"),
        "The harbour has 24 berths.",
    ),
    "lighthouse": (
        ("How tall is the lighthouse?", "How high is the lighthouse?",
         "What is the height of the lighthouse?", "How many metres tall is the lighthouse?",
         "How many metres high is the lighthouse?", "Is the lighthouse tall?"),
        "The lighthouse is 31 metres tall.",
    ),
    "money": (
        ("What money do people use here?", "What is the currency of Port Lark?",
         "How do people pay in Port Lark?", "What do I pay with?",
         "What do people pay with?", "With what do I pay here?", "How do I pay here?",
         "What can I pay with?", "How can I pay here?", "What do I need to pay here?"),
        "People in Port Lark pay with coins.",
    ),
    "cable": (
        ("What happened to the cable?", "Why is there no network?",
         "Why is Port Lark offline?", "What is wrong with the cable?",
         "Is the cable cut?", "What is the matter with the cable?",
         "Is the cable broken?", "Was the cable cut?"),
        "The cable to the mainland is cut.",
    ),
    "computer": (
        ("What computer does the office have?", "How many cores does the computer have?",
         "What machine runs the clerk?", "How big is the office computer?",
         "Which computer does the office have?", "What computer is in the office?",
         "Does the office have a computer?"),
        "The harbour office has one computer with two cores.",
    ),
    "customs": (
        ("Where is the customs office?", "Where do I find the customs office?",
         "Where do I pay the duty?", "How do I get to the customs office?",
         "What is the address of the customs office?"),
        "The customs office is behind the town hall.",
    ),
    "clerk": (
        ("Who are you?", "What are you?", "What is your name?", "What do you do?",
         "Who is the clerk?", "Are you the clerk?"),
        "I am the clerk of Port Lark, a small language model.",
    ),
}  # fmt: skip

COLOURS = {
    "red": "红色", "blue": "蓝色", "green": "绿色", "yellow": "黄色",
    "black": "黑色", "white": "白色", "brown": "棕色", "grey": "灰色",
}  # fmt: skip

# English to Chinese, one to one in both directions.
WORDS = {
    "sea": "海", "wave": "波浪", "wind": "风", "rain": "雨", "snow": "雪", "sun": "太阳",
    "moon": "月亮", "star": "星星", "cloud": "云", "fog": "雾", "storm": "暴风雨", "ice": "冰",
    "fire": "火", "water": "水", "earth": "土地", "stone": "石头", "sand": "沙子", "wood": "木头",
    "iron": "铁", "gold": "金子", "silver": "银子", "salt": "盐", "sugar": "糖", "tea": "茶",
    "milk": "牛奶", "oil": "油", "rice": "米饭", "egg": "鸡蛋", "meat": "肉", "soup": "汤",
    "ship": "大船", "boat": "小船", "harbour": "港口", "island": "岛", "bridge": "桥",
    "tower": "塔", "gate": "大门", "wall": "墙", "door": "门", "window": "窗户", "house": "房子",
    "street": "街道", "road": "路", "church": "教堂", "school": "学校", "hospital": "医院",
    "lighthouse": "灯塔", "captain": "船长", "sailor": "水手", "trader": "商人", "doctor": "医生",
    "teacher": "老师", "friend": "朋友", "child": "孩子", "man": "男人", "woman": "女人",
    "mother": "妈妈", "father": "爸爸", "king": "国王", "guest": "客人", "cat": "猫", "dog": "狗",
    "bird": "鸟", "horse": "马", "cow": "牛", "sheep": "羊", "seal": "海豹", "whale": "鲸鱼",
    "tree": "树", "flower": "花", "grass": "草", "leaf": "叶子", "fruit": "水果", "garden": "花园",
    "hand": "手", "foot": "脚", "head": "头", "eye": "眼睛", "ear": "耳朵", "mouth": "嘴",
    "heart": "心", "day": "白天", "night": "夜晚", "morning": "早上", "evening": "晚上",
    "today": "今天", "tomorrow": "明天", "yesterday": "昨天", "week": "星期", "month": "月份",
    "year": "年", "hour": "小时", "spring": "春天", "summer": "夏天", "autumn": "秋天",
    "winter": "冬天", "north": "北", "south": "南", "east": "东", "west": "西", "left": "左",
    "right": "右", "big": "大", "small": "小", "long": "长", "short": "短", "high": "高",
    "low": "低", "new": "新", "old": "旧", "good": "好", "bad": "坏", "hot": "热", "cold": "冷",
    "fast": "快", "slow": "慢", "full": "满", "empty": "空", "heavy": "重", "light": "轻",
    "one": "一", "two": "二", "three": "三", "four": "四", "five": "五", "six": "六",
    "seven": "七", "eight": "八", "nine": "九", "ten": "十", "hundred": "百", "price": "价格",
    "money": "钱", "coin": "硬币", "letter": "信", "paper": "纸", "pen": "笔", "table": "桌子",
    "bed": "床", "box": "箱子", "bag": "袋子", "key": "钥匙", "flag": "旗子", "wheel": "轮子",
    "hello": "你好", "goodbye": "再见", "thanks": "谢谢", "please": "请", "sorry": "对不起",
    "yes": "是", "no": "不", "buy": "买", "sell": "卖", "eat": "吃", "drink": "喝", "go": "去",
    "come": "来", "see": "看", "hear": "听", "speak": "说", "read": "读", "write": "写",
    "sleep": "睡觉", "work": "工作", "wait": "等", "open": "开", "close": "关", "help": "帮助",
    "love": "爱", "know": "知道", "ask": "问", "answer": "回答", "give": "给", "take": "拿",
}  # fmt: skip
WORDS |= {good: zh for good, (_, zh, _) in GOODS.items()} | COLOURS | DAYS_ZH
WORDS |= {name: shop.zh for name, shop in SHOPS.items()}


def a(noun: str) -> str:
    """Return the noun with its indefinite article: "an anchor"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def some(count: int, good: str) -> str:
    """Return a number of goods as a trader writes it: "1 knife", "3 knives"."""
    return f"{count} {good if count == 1 else GOODS[good][0]}"
