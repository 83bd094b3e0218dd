"""Retries, breaker, fallbacks, limits and the router, with clocks and chance that tests control."""

import asyncio
import random
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import openai
import pytest

from openmodels import catalog
from openmodels.workflows import resilience, trace
from openmodels.workflows.resilience import (
    AllFailed,
    CircuitBreaker,
    CircuitOpen,
    Retry,
    Router,
    choose_threshold,
    is_retryable,
    retry_after,
    route_curve,
    with_fallbacks,
    with_timeout,
)

NOW = datetime(2031, 5, 3, 12, 0, 0, tzinfo=UTC)
REQUEST = httpx.Request("POST", "http://127.0.0.1:1/v1/chat/completions")
CLASSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}


def status(code: int, body: dict | None = None, **headers: str) -> openai.APIStatusError:
    """Return the client's error for a response."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(code, headers=headers, request=REQUEST)
    error_class = CLASSES.get(code, openai.InternalServerError if code >= 500 else None)
    return (error_class or openai.APIStatusError)("no", response=response, body=body)


REFUSED = openai.APIConnectionError(request=REQUEST)
TIMEOUT = openai.APITimeoutError(request=REQUEST)


class Script:
    """A function that raises or returns what its script says, call by call."""

    def __init__(self, *outcomes):
        self.outcomes, self.calls = list(outcomes), 0

    def __call__(self, **request):
        self.calls += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Time:
    """A clock that only `sleep` moves."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Time()


def retry(clock, **options) -> Retry:
    return Retry(
        sleep=clock.sleep, clock=clock, now=lambda: NOW, chance=random.Random(0), **options
    )


# --- Retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (REFUSED, True), (TIMEOUT, True), (status(408), True), (status(409), True),
        (status(429), True), (status(500), True), (status(503), True), (status(529), True),
        (status(400), False), (status(401), False), (status(404), False), (status(422), False),
        (status(429, {"code": "insufficient_quota"}), False),
        (ValueError("no JSON"), False), (KeyboardInterrupt(), False),
    ],
)  # fmt: skip
def test_only_some_errors_are_retryable(error, expected):
    assert is_retryable(error) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("Sat, 03 May 2031 12:00:07 GMT", 7.0),
        ("Sat, 03 May 2031 11:00:00 GMT", 0.0), ("soon", None), ("nan", None), ("inf", None),
        ("", None),
    ],
)  # fmt: skip
def test_retry_after_holds_seconds_or_a_date(value, seconds):
    assert retry_after(status(429, retry_after=value), lambda: NOW) == seconds


def test_errors_without_a_response_have_no_retry_after():
    assert retry_after(REFUSED, lambda: NOW) is None
    assert retry_after(status(503), lambda: NOW) is None
    assert retry_after(None, lambda: NOW) is None


def test_a_call_is_repeated_until_it_succeeds(clock):
    script = Script(REFUSED, status(503), "answer")
    policy = retry(clock)
    assert policy(script) == "answer"
    assert script.calls == 3 and len(clock.slept) == 2 and policy.waits == clock.slept


def test_the_last_error_is_raised_after_all_attempts(clock):
    script = Script(*[REFUSED] * 3, status(503))
    with pytest.raises(openai.InternalServerError):
        retry(clock, attempts=4)(script)
    assert script.calls == 4 and len(clock.slept) == 3


def test_a_wrong_request_is_sent_once(clock):
    script = Script(status(400), "answer")
    with pytest.raises(openai.BadRequestError):
        retry(clock)(script)
    assert script.calls == 1 and clock.slept == []


def test_waits_have_full_jitter_below_a_doubling_limit(clock):
    policy = retry(clock, base=0.5, cap=8)
    for attempt, longest in enumerate([0.5, 1, 2, 4, 8, 8, 8], start=1):
        waits = [policy.wait(attempt, REFUSED) for _ in range(400)]
        assert 0 <= min(waits) < 0.05 * longest and 0.95 * longest < max(waits) <= longest
        assert sum(waits) / 400 == pytest.approx(longest / 2, rel=0.15)
    assert policy.wait(10_000, REFUSED) <= 8


def test_retry_after_is_waited_at_least(clock):
    with pytest.raises(openai.RateLimitError):
        retry(clock, attempts=2)(Script(*[status(429, retry_after="40")] * 2))
    assert clock.slept == [40.0]


def test_a_wait_beyond_the_total_is_not_begun(clock):
    script = Script(status(429, retry_after="5"), status(429, retry_after="5"), "answer")
    with pytest.raises(openai.RateLimitError):
        retry(clock, total=8)(script)
    assert clock.slept == [5.0] and script.calls == 2


def test_retries_are_events_of_the_span(clock, tmp_path):
    path = tmp_path / "traces.db"
    with trace.Recorder(path) as recorder, recorder.chain("ask"):
        retry(clock)(Script(status(503), "answer"))
    (node,) = trace.read(path, trace.summaries(path)[0].trace_id)
    assert [event["name"] for event in node.events] == ["retry"]
    assert node.events[0]["attributes"]["reason"] == "503 InternalServerError"


# --- Time-outs ------------------------------------------------------------------------------------


def test_a_slow_function_times_out_and_goes_on():
    release, finished = threading.Event(), threading.Event()

    def slow():
        release.wait()
        finished.set()

    with pytest.raises(TimeoutError, match="no result within 0.01 s"):
        with_timeout(slow, 0.01)
    release.set()
    assert finished.wait(60)  # the thread was not stopped


def test_a_fast_function_returns_or_raises_as_usual():
    assert with_timeout(max, 60, 3, 4) == 4
    with pytest.raises(KeyError):
        with_timeout({}.__getitem__, 60, "rope")
    with pytest.raises(TimeoutError, match="its own"):
        with_timeout(Script(TimeoutError("its own")), 60)


# --- Circuit breaker ------------------------------------------------------------------------------


def fail_times(breaker, count, error=REFUSED):
    for _ in range(count):
        with pytest.raises(type(error)):
            breaker(Script(error))


def test_the_breaker_opens_tests_and_closes(clock):
    breaker = CircuitBreaker(3, 30, clock)
    fail_times(breaker, 2)
    assert breaker.state == "closed"
    fail_times(breaker, 1)
    assert (breaker.state, breaker.opened) == ("open", 1)
    script = Script("answer")
    clock.now = 29.0
    with pytest.raises(CircuitOpen, match="open; next test in 1.0 s"):
        breaker(script)
    assert script.calls == 0
    clock.now = 30.0
    assert breaker.state == "half-open"
    assert breaker(script) == "answer"
    assert breaker.state == "closed"
    fail_times(breaker, 2)
    assert breaker.state == "closed"  # the count began again


def test_a_failed_test_opens_the_breaker_again(clock):
    breaker = CircuitBreaker(3, 30, clock)
    fail_times(breaker, 3)
    clock.now = 30.0
    fail_times(breaker, 1)
    assert (breaker.state, breaker.opened) == ("open", 2)
    clock.now = 59.9
    with pytest.raises(CircuitOpen):
        breaker(Script("answer"))


def test_a_success_resets_the_count(clock):
    breaker = CircuitBreaker(3, 30, clock)
    for _ in range(5):
        fail_times(breaker, 2)
        breaker(Script("answer"))
    assert breaker.opened == 0


def test_a_wrong_request_does_not_count_as_a_failure(clock):
    breaker = CircuitBreaker(2, 30, clock)
    fail_times(breaker, 9, status(400))
    assert breaker.state == "closed"
    fail_times(breaker, 2)
    clock.now = 30
    fail_times(breaker, 1, status(400))  # the server answered: it works
    assert breaker.state == "closed"


def test_only_one_test_passes_at_a_time(clock):
    breaker = CircuitBreaker(1, 30, clock)
    fail_times(breaker, 1)
    clock.now = 30.0

    def nested():
        with pytest.raises(CircuitOpen, match="half-open"):
            breaker(Script("second"))
        return "first"

    assert breaker(nested) == "first"


def test_an_interrupted_test_leaves_the_breaker_half_open(clock):
    breaker = CircuitBreaker(1, 30, clock)
    fail_times(breaker, 1)
    clock.now = 30.0
    with pytest.raises(KeyboardInterrupt):
        breaker(Script(KeyboardInterrupt()))
    assert breaker.state == "half-open"
    assert breaker(Script("answer")) == "answer"


def test_a_late_outcome_does_not_close_an_open_breaker(clock):
    breaker = CircuitBreaker(1, 30, clock)

    def started_before():
        fail_times(breaker, 1)
        return "late"

    assert breaker(started_before) == "late"
    assert breaker.state == "open"


# --- Fallbacks ------------------------------------------------------------------------------------


def test_the_first_candidate_that_answers_wins_and_reasons_are_kept(clock, tmp_path):
    breaker = CircuitBreaker(1, 30, clock)
    fail_times(breaker, 1)
    candidates = {
        "api": Script(status(503)),
        "second api": lambda **request: breaker(Script("never")),
        "local": Script("answer"),
        "template": Script("unused"),
    }
    path = tmp_path / "traces.db"
    with trace.Recorder(path) as recorder, recorder.chain("ask"):
        reply = with_fallbacks(candidates, model="m")
    assert (reply.name, reply.response) == ("local", "answer")
    assert reply.reasons == (
        ("api", "503 InternalServerError"),
        ("second api", "the breaker is open; next test in 30.0 s"),
    )
    assert candidates["template"].calls == 0
    (node,) = trace.read(path, trace.summaries(path)[0].trace_id)
    assert [event["attributes"]["candidate"] for event in node.events] == ["api", "second api"]


def test_a_wrong_request_does_not_reach_the_next_candidate():
    second = Script("answer")
    with pytest.raises(openai.BadRequestError):
        with_fallbacks({"api": Script(status(400)), "local": second})
    assert second.calls == 0


def test_all_reasons_are_reported_if_none_answers():
    with pytest.raises(AllFailed, match="api: APITimeoutError; tool: TimeoutError"):
        with_fallbacks({"api": Script(TIMEOUT), "tool": Script(TimeoutError())})


# --- Rate limit -----------------------------------------------------------------------------------


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    offset = 0.0

    def time(self) -> float:
        return self.offset

    def _run_once(self) -> None:
        if self._scheduled and not self._ready:
            self.offset = max(self.offset, self._scheduled[0].when())
        super()._run_once()


def run_virtually(main):
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def test_calls_start_at_the_limits_rate():
    async def main():
        limit, times = resilience.RateLimit(requests=2, seconds=10), []

        async def call():
            times.append(asyncio.get_running_loop().time())
            return len(times)

        assert sorted(await limit.run([call] * 6)) == [1, 2, 3, 4, 5, 6]
        return times

    # a burst of two, then one every five seconds
    assert run_virtually(main()) == pytest.approx([0, 0, 5, 10, 15, 20])


def test_tokens_are_limited_too_and_errors_are_results():
    async def main():
        limit, times = resilience.RateLimit(requests=100, tokens=50, seconds=10), []
        for tokens in (30, 20, 25):
            await limit.acquire(tokens)
            times.append(asyncio.get_running_loop().time())
        with pytest.raises(ValueError):
            await limit.acquire(51)

        async def call():
            raise REFUSED

        return times, await limit.run([call])

    times, results = run_virtually(main())
    assert times == pytest.approx([0, 0, 5]) and results == [REFUSED]


# --- Router ---------------------------------------------------------------------------------------

PRICE = catalog.get_price("gpt-4o-mini", "OpenAI")


def completion(text: str, *logprobs: float):
    usage = SimpleNamespace(prompt_tokens=1_000, completion_tokens=100)
    content = [SimpleNamespace(logprob=value) for value in logprobs]
    choice = SimpleNamespace(
        message=SimpleNamespace(content=text), logprobs=SimpleNamespace(content=content)
    )
    return SimpleNamespace(choices=[choice], usage=usage)


def router(clock, local, api):
    def timed(**request):
        assert request.pop("logprobs") is True
        clock.now += 2.0
        return local(**request)

    return Router(timed, api, threshold=0.8, price=PRICE, second=0.01, clock=clock)


def test_a_confident_answer_stays_local(clock):
    api = Script()
    routed = router(clock, Script(completion("berth 7", -0.01, -0.1)), api)(model="m")
    assert (routed.text, routed.route, api.calls) == ("berth 7", "local", 0)
    assert routed.reason == "confidence 0.90 is at least 0.80"
    assert routed.cost == pytest.approx(0.02) and routed.seconds == 2.0


def test_one_unlikely_token_sends_the_request_to_the_api(clock):
    local, api = Script(completion("berth 7", -0.01, -1.2)), Script(completion("berth 9"))
    routed = router(clock, local, api)(model="m")
    assert (routed.text, routed.route) == ("berth 9", "api")
    assert routed.cost == pytest.approx(0.02 + (1_000 * 0.15 + 100 * 0.6) / 1e6)


def test_an_api_that_fails_costs_its_answer_only(clock):
    local = Script(completion("berth 7", -2.0))
    routed = router(clock, local, Script(status(503)))(model="m")
    assert (routed.text, routed.route) == ("berth 7", "local")
    assert routed.reason.endswith("the API failed: 503 InternalServerError")


def test_confidence_needs_logprobs():
    with pytest.raises(ValueError, match="logprobs=True"):
        resilience.confidence(completion("x"))


def test_the_curve_goes_from_all_local_to_all_api():
    sure = [0.9, 0.2, 0.6, 0.6]
    local, api = [True, False, False, True], [True, True, True, False]
    points = route_curve(sure, local, api)
    assert [(p.threshold, p.accuracy, p.api_share) for p in points] == [
        (0.0, 0.5, 0.0),
        (0.6, 0.75, 0.25),
        (0.9, 0.75, 0.75),
        (float("inf"), 0.75, 1.0),
    ]
    assert choose_threshold(points, 0.7).api_share == 0.25
    with pytest.raises(LookupError, match="no threshold reaches 80.0%; the best reaches 75.0%"):
        choose_threshold(points, 0.8)
    for confidences, right in (([], []), ([0.1], [True, False])):
        with pytest.raises(ValueError):
            route_curve(confidences, right, right)


def test_the_curve_agrees_with_the_router(clock):
    chance = random.Random(3)
    sure = [round(chance.random(), 1) for _ in range(200)]
    local = [chance.random() < value for value in sure]
    api = [chance.random() < 0.9 for _ in sure]
    for point in route_curve(sure, local, api):
        routes = [value < point.threshold for value in sure]
        right = [a if to_api else b for to_api, a, b in zip(routes, api, local, strict=True)]
        assert sum(right) / 200 == pytest.approx(point.accuracy)
        assert sum(routes) / 200 == pytest.approx(point.api_share)


def test_a_second_of_a_machine_has_a_cost():
    terms = {"years": 4, "power_W": 0, "price_per_kWh": 0.3, "utilisation": 0.1}
    seconds = 4 * 365.25 * 24 * 3600 * 0.1
    cost = resilience.cost_per_second(600, **terms)
    assert cost == pytest.approx(600 / seconds, rel=0.01)
    power = resilience.cost_per_second(0, **(terms | {"power_W": 1_000}))
    assert power == pytest.approx(0.3 / 3600)


def test_a_direct_route_has_its_cost_and_time(clock):
    def create(**request):
        clock.now += 3.0
        return completion("berth 7")

    routed = resilience.direct(create, "local", second=0.01, clock=clock)(model="m")
    assert (routed.text, routed.route, routed.seconds) == ("berth 7", "local", 3.0)
    assert routed.cost == pytest.approx(0.03)
    priced = resilience.direct(create, "api", price=PRICE, clock=clock)(model="m")
    assert priced.cost == pytest.approx((1_000 * 0.15 + 100 * 0.6) / 1e6)


def test_outcomes_of_a_policy(clock):
    script = Script("answer", status(503), "answer", status(400), "answer")
    policy = retry(clock, attempts=1)
    assert resilience.outcomes(policy, script, {}, 5) == [True, False, True, False, True]
