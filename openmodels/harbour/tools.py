"""The functions of the harbour office, as JSON schemas for a model."""


def _schema(name: str, description: str, /, **parameters: str) -> dict:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": kind} for key, kind in parameters.items()},
                "required": list(parameters),
            },
        },
    }


def _by_name(*schemas: dict) -> dict[str, dict]:
    return {schema["function"]["name"]: schema for schema in schemas}


# The five functions that mini-qwen was trained with.
SCHEMAS = _by_name(
    _schema("get_price", "Price of an item in a shop", item="string", shop="string"),
    _schema("ferry_times", "Ferries to an island on a day", to="string", day="string"),
    _schema("tide", "High and low water on a day", day="string"),
    _schema("book_berth", "Book a berth", ship="string", captain="string", nights="integer"),
    _schema("send_message", "Send a message to a person", to="string", text="string"),
)

# All ten functions that `office.Office` answers.
OFFICE_SCHEMAS = SCHEMAS | _by_name(
    _schema("get_stock", "Number of an item in a shop", item="string", shop="string"),
    _schema("find_ship", "Berth and captain of a ship", ship="string"),
    _schema(
        "place_order", "Order an item from a shop",
        name="string", item="string", quantity="integer", shop="string",
    ),
    _schema("read_mail", "Read the mail of a person", person="string"),
    _schema("pay", "Pay coins to a person", name="string", coins="integer"),
)  # fmt: skip

WRITES = ("book_berth", "send_message", "place_order", "pay")  # calls that change the state

# pydantic-ai's default description of the tool that carries an agent's typed output
OUTPUT_DESCRIPTION = "The final response which ends this conversation"


def final_result(**fields: str) -> dict:
    """Return the schema of `final_result`: the typed output of an agent, as a tool.

    fields: each field's name and JSON type. A model calls it exactly once, instead of an answer.
    """
    return _schema("final_result", OUTPUT_DESCRIPTION, **fields)
