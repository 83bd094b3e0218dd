"""Config files of vLLM and Ray Serve, read and checked where neither is installed.

`plans(file)` says what a file asks for, `problems(plan)` what is wrong with it. Only what can be
known without a GPU: names, sizes, ports. What a server makes of its options it alone can say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from openmodels import catalog, sizing

HOST = "127.0.0.1"
MOST_BYTES = 1_000_000  # of a file
ACCELERATORS = {  # Ray's names and the catalogue's
    "L40S": "L40S",
    "A100-80G": "A100 80GB SXM",
    "H100": "H100 80GB SXM",
    "H200": "H200 141GB SXM",
}
KNOWN = (
    "served-model-name",
    "max-model-len",
    "max-num-seqs",
    "gpu-memory-utilization",
    "tensor-parallel-size",
)
DEFAULT_SHARE = 0.9  # of a GPU's memory, where a file sets none: vLLM's own differs by version


class BadFile(ValueError):
    """The file is no plan that this module can read."""


@dataclass(frozen=True)
class Plan:
    """One model as a file asks for it."""

    repo: str  # where its weights come from
    gpu: str  # of the catalogue
    gpus: int  # that share one copy
    copies: int  # at most
    context: int  # tokens of a text
    slots: int
    share: float  # of a GPU's memory that the engine may take
    host: str  # that the port listens on; "" for every network
    key: bool  # whether the server itself asks for a key
    offline: bool  # whether it is told to fetch nothing

    @property
    def model(self) -> catalog.Model | None:
        """Its row of the catalogue; None where the catalogue has no such repository."""
        return next((one for one in catalog.models() if one.hf_repo_id == self.repo), None)

    @property
    def needed(self) -> int:
        """Bytes of one copy when every slot holds a full text, by `sizing.needed_bytes`."""
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
        """Bytes of the GPUs of one copy that the engine may take."""
        memory = catalog.get_hardware(self.gpu).memory_GB
        if memory is None:
            raise BadFile(f"the catalogue has no memory for {self.gpu}")
        return round(self.gpus * memory * self.share * sizing.GB)


def plans(file: Path | str) -> list[Plan]:
    """What a Compose file with vLLM or a config of Ray Serve asks for, model by model.

    Raises BadFile for a file that is neither, or has options this module does not know.
    """
    content = Path(file).read_bytes()
    if len(content) > MOST_BYTES:
        raise BadFile(f"{Path(file).name} has more than {MOST_BYTES:,} bytes")
    try:
        told = yaml.safe_load(content)
        if "services" in told:
            return [_composed(told, service) for service in told["services"].values()]
        return [
            _served(told, one) for app in told["applications"] for one in app["args"]["llm_configs"]
        ]
    except BadFile:
        raise
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        words = f"{type(error).__name__}: {str(error)[:200]}"
        raise BadFile(f"{Path(file).name} is no plan: {words}") from error


def _composed(told: Mapping[str, Any], service: Mapping[str, Any]) -> Plan:
    options = _options(service["command"])
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    environment = service.get("environment", {})
    parallel = int(options.get("tensor-parallel-size", 1))
    if parallel != sum(int(one["count"]) for one in devices):
        raise BadFile("as many GPUs must be reserved as --tensor-parallel-size says")
    if not str(service["image"]).partition(":")[2].startswith("v"):
        raise BadFile(f"image {service['image']} names no version")
    hosts = {_host(port) for port in service["ports"]}
    return Plan(
        repo=options["model"],
        gpu=told["x-gpu"],
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
    """The model, then `--name=value`; an option that is not known here may hold anything."""
    model, *others = command
    if model.startswith("-"):
        raise BadFile(f"the model must come first, not {model!r}")
    options = {"model": model}
    for one in others:
        name, equals, value = one.removeprefix("--").partition("=")
        if name not in KNOWN or not equals:
            raise BadFile(f"option {one!r} is not known here")
        options[name] = value
    return options


def _host(port: str) -> str:
    """The address before Compose's host:container, "" where it listens everywhere."""
    host, colon, _ = str(port).rpartition(":")[0].rpartition(":")
    return host if colon else ""


def _served(told: Mapping[str, Any], one: Mapping[str, Any]) -> Plan:
    engine, deployed = one["engine_kwargs"], one["deployment_config"]
    unknown = {key.replace("_", "-") for key in engine} - set(KNOWN)
    if unknown:
        raise BadFile(f"options {', '.join(sorted(unknown))} are not known here")
    variables = one.get("runtime_env", {}).get("env_vars", {})
    return Plan(
        repo=one["model_loading_config"]["model_source"],
        gpu=ACCELERATORS[one["accelerator_type"]],
        gpus=int(engine.get("tensor_parallel_size", 1)),
        copies=int(deployed["autoscaling_config"]["max_replicas"]),
        context=int(engine["max_model_len"]),
        slots=int(engine["max_num_seqs"]),
        share=float(engine.get("gpu_memory_utilization", DEFAULT_SHARE)),
        host=str(told["http_options"]["host"]),
        key=False,
        offline=str(variables.get("HF_HUB_OFFLINE")) == "1",
    )


def problems(plan: Plan) -> list[str]:
    """What is wrong with a plan, one line each; none says that it runs."""
    row, found = plan.model, []
    if plan.host != HOST:
        found.append(f"the port listens on {plan.host or 'every network'}, not on {HOST} alone")
    if not plan.offline:
        found.append("the server may fetch weights: HF_HUB_OFFLINE is not 1")
    if min(plan.gpus, plan.copies, plan.context, plan.slots) < 1 or not 0 < plan.share <= 1:
        return [*found, "a number is out of range"]
    if plan.gpu not in {one.id for one in catalog.hardware("gpu")}:
        return [*found, f"the catalogue has no GPU {plan.gpu}"]
    if row is None:
        return [*found, f"the catalogue has no model {plan.repo}"]
    if row.context_length and plan.context > row.context_length:
        found.append(f"texts of {plan.context:,} tokens; {row.id} reads {row.context_length:,}")
    if row.n_heads and row.n_heads % plan.gpus:
        found.append(f"{row.n_heads} heads cannot be shared by {plan.gpus} GPUs")
    try:
        fit = sizing.Fit(plan.needed, plan.available)
    except BadFile as error:
        return [*found, str(error)]
    if not fit:
        found.append(f"{row.id} on {plan.gpus} × {plan.gpu} {fit}")
    return found
