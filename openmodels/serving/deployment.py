"""Reads and checks config files of vLLM and Ray Serve on a machine that has neither.

`plans(file)` returns what a file requests, `problems(plan)` what is wrong with it. The checks need
no GPU: names, sizes, ports. Whether a server accepts its options shows only when it starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from openmodels import catalog, sizing

HOST = "127.0.0.1"
MAX_BYTES = 1_000_000  # of a file
ACCELERATORS = {  # Ray's name to the catalogue's
    "L40S": "L40S",
    "A100-80G": "A100 80GB SXM",
    "H100": "H100 80GB SXM",
    "H200": "H200 141GB SXM",
}
OPTIONS = (
    "served-model-name",
    "max-model-len",
    "max-num-seqs",
    "gpu-memory-utilization",
    "tensor-parallel-size",
)
DEFAULT_SHARE = 0.9  # of a GPU's memory; vLLM's own default differs by version


class BadFile(ValueError):
    """The file is not a plan that this module can read."""


@dataclass(frozen=True)
class Plan:
    """One model and its resources, as a file requests them."""

    repo: str  # of its weights on the Hugging Face Hub
    gpu: str  # the catalogue's id
    gpus: int  # per copy
    copies: int  # maximum
    context: int  # tokens per sequence
    slots: int  # sequences at the same time, per copy
    share: float  # of a GPU's memory that the engine may use, 0 to 1
    host: str  # that the port listens on; "" for every network
    key: bool  # whether the server requires an API key
    offline: bool  # whether the server may not download anything

    @property
    def model(self) -> catalog.Model | None:
        """Return its row of the catalogue, None if the catalogue has no such repository."""
        return next((row for row in catalog.models() if row.hf_repo_id == self.repo), None)

    @property
    def needed(self) -> int:
        """Return the bytes of one copy when every slot's context is full. Raises BadFile."""
        row = self.model
        if row is None or row.parameters is None:
            raise BadFile(f"the catalogue has no size for {self.repo}")
        try:
            config = catalog.config(row.id)
        except LookupError as error:
            raise BadFile(f"the course carries no shape of {row.id} to count with") from error
        cache = self.slots * sizing.kv_cache_bytes(config, self.context)
        return sizing.needed_bytes(sizing.weight_bytes(row.parameters), cache)

    @property
    def available(self) -> int:
        """Return the bytes that the engine may use on the GPUs of one copy. Raises BadFile."""
        memory = catalog.get_hardware(self.gpu).memory_GB
        if memory is None:
            raise BadFile(f"the catalogue has no memory for {self.gpu}")
        return round(self.gpus * memory * self.share * sizing.GB)


def plans(file: Path | str) -> list[Plan]:
    """Return the plans of a Compose file with vLLM or a config of Ray Serve, one per model.

    Raises BadFile for a file that is neither, or that has options this module does not know.
    """
    content = Path(file).read_bytes()
    if len(content) > MAX_BYTES:
        raise BadFile(f"{Path(file).name} has more than {MAX_BYTES:,} bytes")
    try:
        config = yaml.safe_load(content)
        if "services" in config:
            return [_compose_plan(config, service) for service in config["services"].values()]
        return [
            _ray_plan(config, model)
            for app in config["applications"]
            for model in app["args"]["llm_configs"]
        ]
    except BadFile:
        raise
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{type(error).__name__}: {str(error)[:200]}"
        raise BadFile(f"{Path(file).name} is no plan: {message}") from error


def _compose_plan(config: Mapping[str, Any], service: Mapping[str, Any]) -> Plan:
    options = _options(service["command"])
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    environment = service.get("environment", {})
    parallel = int(options.get("tensor-parallel-size", 1))
    if parallel != sum(int(device["count"]) for device in devices):
        raise BadFile("as many GPUs must be reserved as --tensor-parallel-size says")
    if not str(service["image"]).partition(":")[2].startswith("v"):
        raise BadFile(f"image {service['image']} names no version")
    hosts = {_host(port) for port in service["ports"]}
    return Plan(
        repo=options["model"],
        gpu=config["x-gpu"],
        gpus=parallel,
        copies=1,
        context=int(options["max-model-len"]),
        slots=int(options["max-num-seqs"]),
        share=float(options.get("gpu-memory-utilization", DEFAULT_SHARE)),
        host=hosts.pop() if len(hosts) == 1 else "",
        key="VLLM_API_KEY" in environment,
        offline=str(environment.get("HF_HUB_OFFLINE")) == "1",
    )


def _options(command: Sequence[str]) -> dict[str, str]:
    """Return the options of a command: the model, then `--name=value`. Raises BadFile.

    An unknown option could change anything, so it is an error.
    """
    model, *arguments = command
    if model.startswith("-"):
        raise BadFile(f"the model must come first, not {model!r}")
    options = {"model": model}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if name not in OPTIONS or not equals:
            raise BadFile(f"option {argument!r} is not known here")
        options[name] = value
    return options


def _host(port: str) -> str:
    """Return the address in Compose's address:host:container, "" for every network."""
    host, colon, _ = str(port).rpartition(":")[0].rpartition(":")
    return host if colon else ""


def _ray_plan(config: Mapping[str, Any], model: Mapping[str, Any]) -> Plan:
    engine, deployment = model["engine_kwargs"], model["deployment_config"]
    unknown = {key.replace("_", "-") for key in engine} - set(OPTIONS)
    if unknown:
        raise BadFile(f"options {', '.join(sorted(unknown))} are not known here")
    variables = model.get("runtime_env", {}).get("env_vars", {})
    return Plan(
        repo=model["model_loading_config"]["model_source"],
        gpu=ACCELERATORS[model["accelerator_type"]],
        gpus=int(engine.get("tensor_parallel_size", 1)),
        copies=int(deployment["autoscaling_config"]["max_replicas"]),
        context=int(engine["max_model_len"]),
        slots=int(engine["max_num_seqs"]),
        share=float(engine.get("gpu_memory_utilization", DEFAULT_SHARE)),
        host=str(config["http_options"]["host"]),
        key=False,
        offline=str(variables.get("HF_HUB_OFFLINE")) == "1",
    )


def problems(plan: Plan) -> list[str]:
    """Return what is wrong with a plan, one line each; a plan without problems may still fail."""
    row, lines = plan.model, []
    if plan.host != HOST:
        lines.append(f"the port listens on {plan.host or 'every network'}, not on {HOST} alone")
    if not plan.offline:
        lines.append("the server may fetch weights: HF_HUB_OFFLINE is not 1")
    if min(plan.gpus, plan.copies, plan.context, plan.slots) < 1 or not 0 < plan.share <= 1:
        return [*lines, "a number is out of range"]
    if plan.gpu not in {row.id for row in catalog.hardware("gpu")}:
        return [*lines, f"the catalogue has no GPU {plan.gpu}"]
    if row is None:
        return [*lines, f"the catalogue has no model {plan.repo}"]
    if row.context_length and plan.context > row.context_length:
        lines.append(f"texts of {plan.context:,} tokens; {row.id} reads {row.context_length:,}")
    if row.n_heads and row.n_heads % plan.gpus:
        lines.append(f"{row.n_heads} heads cannot be shared by {plan.gpus} GPUs")
    try:
        fit = sizing.Fit(plan.needed, plan.available)
    except BadFile as error:
        return [*lines, str(error)]
    if not fit:
        lines.append(f"{row.id} on {plan.gpus} × {plan.gpu} {fit}")
    return lines
