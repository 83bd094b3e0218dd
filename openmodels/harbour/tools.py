"""The harbour office's five functions, as JSON schemas for a model."""


def _schema(name: str, description: str, **parameters: str) -> dict:
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


SCHEMAS = {
    schema["function"]["name"]: schema
    for schema in (
        _schema("get_price", "Price of an item in a shop", item="string", shop="string"),
        _schema("ferry_times", "Ferries to an island on a day", to="string", day="string"),
        _schema("tide", "High and low water on a day", day="string"),
        _schema("book_berth", "Book a berth", ship="string", captain="string", nights="integer"),
        _schema("send_message", "Send a message to a person", to="string", text="string"),
    )
}
