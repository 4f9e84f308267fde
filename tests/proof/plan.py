"""What is going to happen, all of it from the seed: the budgets, the requests, and what providers do to each.

A request's header `x-mix` says which budgets concern it. Limits over long windows are a share of what their requests will
want, so that they are reached before the run ends; limits over short ones are reached in most of their windows.
"""

import random
from dataclasses import dataclass, field
from typing import Any

DOLLAR = 10**12
# Picodollars for a token of the prompt and of the answer (filter/gateway/src/catalogue.json).
PRICES = {"gpt-4o-mini": (150_000, 600_000), "gpt-4o": (2_500_000, 10_000_000), "claude-haiku-4-5": (1_000_000, 5_000_000)}
# The dearest that a token of the prompt can be: written to a cache for an hour.
DEAREST = {"gpt-4o-mini": 150_000, "gpt-4o": 2_500_000, "claude-haiku-4-5": 2_000_000}
# Tokens a second that a model is taken to make where nobody sees them (USUAL, filter/gateway/src/tokens/speed.rs). No answer here
# takes the second that would teach another speed.
SPEED = 100
# Tokens that a model answers at most, where the client says nothing.
MOST = 16_384
# The providers' rows, and the names of the providers.
ROWS = ["openai", "openai", "anthropic"]
PROVIDERS = ["one", "two", "three"]
# Seconds that an exchange may take at most: short, so that what died with its VM lapses soon.
TOTAL = 5
KEYS = ["k0", "k1", "k2", "k3"]
# Keys whose clients hang up: what those are charged with is known less exactly.
MESSY = ["m0", "m1"]


@dataclass(frozen=True)
class Budget:
    name: str
    # fixed, sliding, calendar or concurrent; and its length: milliseconds, or the calendar's word.
    kind: str
    length: int | str
    # tokens, inputTokens, outputTokens, usd (in picodollars), requests or concurrent.
    unit: str
    # An amount; or the share of what its requests will want, of each account's mean.
    limit: float
    mixes: tuple[str, ...]
    per: tuple[str, ...] = ()
    exceed: Any = "reject"
    charges_failed: bool = False
    routes: tuple[str, ...] = ()
    # Only what these providers serve.
    at: tuple[str, ...] = ()

    @property
    def keyed(self) -> bool:
        return "header.x-key" in self.per

    @property
    def moves(self) -> bool:
        return self.follows_provider or "model" in self.per

    @property
    def follows_provider(self) -> bool:
        return "provider" in self.per or bool(self.at)


KEYED = ("header.x-key",)
SHARES: list[Budget] = [
    Budget("fixed-tokens", "fixed", 2000, "tokens", 1500, ("f-tokens",), KEYED),
    Budget("fixed-output", "fixed", 3000, "outputTokens", 900, ("f-output",), exceed="clamp"),
    Budget("fixed-requests", "fixed", 2000, "requests", 30, ("several",)),
    Budget("fixed-dear", "fixed", 2000, "outputTokens", 300, ("down",), KEYED, {"downgrade": {"route": "cheap"}}, routes=("dear",)),
    Budget("fixed-models", "fixed", 2000, "usd", DOLLAR // 500, ("f-models",), ("model", *KEYED), charges_failed=True),
    Budget("sliding-tokens", "sliding", 4000, "tokens", 2500, ("s-tokens",), KEYED, "clamp"),
    Budget("sliding-requests", "sliding", 2000, "requests", 8, ("s-requests",), KEYED, {"queue": "3s"}),
    Budget("sliding-day", "sliding", 86_400_000, "tokens", 0.6, ("s-day",), charges_failed=True),
    Budget("sliding-usd", "sliding", 3000, "usd", DOLLAR // 1000, ("s-usd",), KEYED, "clamp"),
    Budget("month-usd", "calendar", "month", "usd", 0.7, ("c-usd",), KEYED),
    Budget("hour-output", "calendar", "hour", "outputTokens", 0.6, ("c-output",), KEYED, "clamp"),
    Budget("day-input", "calendar", "day", "inputTokens", 0.7, ("c-input",)),
    Budget("day-each", "calendar", "day", "tokens", 0.7, ("c-each",), ("provider", *KEYED)),
    Budget("day-there", "calendar", "day", "tokens", 0.3, ("c-there",), KEYED, charges_failed=True, at=("two",)),
    Budget("day-steep", "calendar", "day", "usd", 0.6, ("c-steep",), ("provider", *KEYED), "clamp", charges_failed=True),
    Budget("week-requests", "calendar", "week", "requests", 0.7, ("c-requests",), KEYED),
    Budget("day-dear", "calendar", "day", "usd", 0.7, ("down",)),
    Budget("day-all", "calendar", "day", "tokens", 0.7, ("several",)),
    Budget("day-warning", "calendar", "day", "outputTokens", 0.1, ("several",), exceed="shadow"),
    Budget("month-watched", "calendar", "month", "usd", 100, ("several", "c-output"), exceed="shadow"),
    Budget("at-once", "concurrent", 0, "concurrent", 2, ("n-keyed",), KEYED, {"queue": "4s"}),
    Budget("at-once-left", "concurrent", 0, "concurrent", 30, ("n-left",), KEYED),
    # What dead VMs leave behind is held for half a minute, most of a run: those that several budgets concern have room beside it, or
    # few of them would ever be admitted.
    Budget("at-once-all", "concurrent", 0, "concurrent", 6, ("n-all",)),
    Budget("at-once-several", "concurrent", 0, "concurrent", 120, ("several",)),
]
# Routes: what each is tried with; a model for each provider.
ROUTES: dict[str, list[tuple[str, str]]] = {
    "plain": [("one", "gpt-4o-mini")],
    "pair": [("one", "gpt-4o-mini"), ("two", "gpt-4o-mini")],
    "turned": [("two", "gpt-4o-mini"), ("one", "gpt-4o-mini")],
    "cross": [("one", "gpt-4o-mini"), ("three", "claude-haiku-4-5")],
    # The second and the third go by one account, and the third is dearer.
    "steep": [("one", "gpt-4o-mini"), ("two", "gpt-4o-mini"), ("two", "gpt-4o")],
    "dear": [("two", "gpt-4o")],
    "cheap": [("one", "gpt-4o-mini")],
}
# How often a mix is chosen, and the routes it takes.
MIXES: dict[str, tuple[int, tuple[str, ...]]] = {
    "f-tokens": (8, ("plain", "pair")),
    "f-output": (8, ("plain", "pair", "cross")),
    "f-models": (6, ("plain", "dear", "cross")),
    "s-tokens": (8, ("plain", "pair")),
    "s-requests": (4, ("plain",)),
    "s-day": (8, ("pair", "cross")),
    "s-usd": (7, ("plain", "pair")),
    "c-usd": (8, ("plain", "pair")),
    "c-output": (7, ("plain", "pair")),
    "c-input": (6, ("plain", "pair")),
    "c-each": (8, ("pair", "turned")),
    "c-there": (8, ("pair", "turned")),
    "c-steep": (8, ("steep",)),
    "c-requests": (5, ("plain", "pair")),
    "down": (6, ("dear",)),
    "several": (14, ("plain", "pair")),
    "n-keyed": (4, ("plain",)),
    "n-left": (2, ("plain",)),
    "n-all": (5, ("plain", "pair")),
}
CRASHES = ["head", "reserved", "sent", "answer", "settled"]


@dataclass(frozen=True)
class Wish:
    """One request, as it is meant to go."""

    number: int
    mix: str
    route: str
    key: str
    words: int
    # Tokens that each answer would have, and the client's limit of them.
    tokens: int
    cap: int | None
    answers: int
    stream: bool
    whole: bool
    acts: str
    millis: int
    # The client hangs up after so many milliseconds, or so many tokens.
    leaves_after: int | None = None
    leaves_at: int | None = None
    crash: str | None = None

    @property
    def output(self) -> int:
        return self.answers * min(self.tokens, self.cap or MOST)


@dataclass
class Plan:
    seed: int
    budgets: list[Budget]
    wishes: list[Wish]
    limits: dict[str, int] = field(default_factory=dict)

    def budgets_of(self, mix: str) -> list[Budget]:
        return [budget for budget in self.budgets if mix in budget.mixes or mix == f"probe-{budget.name}"]


def made(seed: int, requests: int) -> Plan:
    dice = random.Random(seed)
    crashes = crashing(dice, requests)
    wishes = [wish(dice, number, crashes.get(number)) for number in range(1, requests + 1)]
    plan = Plan(seed, SHARES, wishes)
    plan.limits = {budget.name: limit(budget, wishes) for budget in plan.budgets}
    return plan


def crashing(dice: random.Random, requests: int) -> dict[int, str]:
    """Which requests kill their VM: in the first third, so that most of what they leave behind has lapsed at the end."""
    count = max(len(CRASHES), requests // 1000)
    numbers = dice.sample(range(requests // 40, requests // 3), count)
    return {number: CRASHES[at % len(CRASHES)] for at, number in enumerate(numbers)}


def wish(dice: random.Random, number: int, crash: str | None) -> Wish:
    mix = dice.choices(list(MIXES), [weight for weight, _ in MIXES.values()])[0]
    route = dice.choice(MIXES[mix][1])
    messy = dice.random() < 0.25
    key = dice.choice(MESSY if messy else KEYS)
    tokens = dice.choice([1, dice.randrange(2, 30), dice.randrange(20, 120), dice.randrange(100, 300)])
    clamps = mix in ("f-output", "s-tokens", "s-usd", "c-output", "n-keyed", "n-all", "s-requests", "c-requests", "c-input")
    cap = None if clamps and dice.random() < 0.25 else max(1, int(tokens * dice.choice([0.4, 0.8, 1, 1.2, 1.5, 2])))
    stream = dice.random() < 0.45
    leaves_after = leaves_at = None
    millis, doing = dice.choice([0, 2, 10, 30, 80, 150]), acts(dice, route)
    if mix == "n-left":
        # While Envoy waits for the second that the only target is given.
        doing, millis, leaves_after = "503,503,ok", 0, dice.randrange(200, 900)
    elif messy and dice.random() < 0.3:
        if stream and dice.random() < 0.5:
            leaves_at = dice.randrange(1, tokens + 1)
        else:
            leaves_after = dice.randrange(0, 2 * millis + 30)
    return Wish(
        number, mix, route, key, words=dice.choice([1, dice.randrange(1, 20), dice.randrange(10, 80), dice.randrange(60, 160)]),
        tokens=tokens, cap=cap, answers=2 if route in ("plain", "pair", "turned") and dice.random() < 0.1 else 1, stream=stream,
        whole=stream and dice.random() < 0.2, acts=doing, millis=millis,
        leaves_after=leaves_after, leaves_at=leaves_at, crash=crash)


def acts(dice: random.Random, route: str) -> str:
    """What providers do to its attempts."""
    roll = dice.random()
    if roll < {1: 0.015, 2: 0.15}.get(len(ROUTES[route]), 0.4):
        failing = dice.choice(["503", "503", "reset", "cut", "503,503", "503,reset", "reset,503"])
        return f"{failing},ok"
    if len(ROUTES[route]) <= 2 and roll < 0.19:
        return dice.choice(["mute", "mute", "cut", "cut,cut,cut,cut"])
    return "stall,ok" if roll < 0.196 else "ok"


def wants(budget: Budget, wish: Wish) -> int:
    given, taken = 7 + wish.words, wish.output
    match budget.unit:
        case "tokens":
            return given + taken
        case "inputTokens":
            return given
        case "outputTokens":
            return taken
        case "usd":
            price = PRICES[ROUTES[wish.route][0][1]]
            return given * price[0] + taken * price[1]
    return 1


def limit(budget: Budget, wishes: list[Wish]) -> int:
    """Amounts stay; of shares so much of what is wanted from an account."""
    if budget.limit > 1 and budget.name != "month-watched":
        return int(budget.limit)
    wanted = sum(wants(budget, wish) for wish in wishes if wish.mix in budget.mixes)
    accounts = (len(KEYS) + len(MESSY) if budget.keyed else 1) * (2 if "provider" in budget.per else 1)
    return int(budget.limit * wanted / accounts) + 1


# ---- as the gateway's configuration ----


def configured(plan: Plan, ports: list[int]) -> dict[str, Any]:
    """The chart's values under `gateway`."""
    providers = [{"name": name, "provider": row, "origin": f"http://127.0.0.1:{port}"} for name, row, port in zip(PROVIDERS, ROWS, ports)]
    limits = {"firstToken": "2s", "idle": "2s", "answer": "4s", "total": f"{TOTAL}s", "waitLimit": "1s"}
    routes = [{"models": [name], "targets": [{"provider": provider, "model": model} for provider, model in targets], **limits}
              for name, targets in ROUTES.items()]
    routes += [{"models": [f"only-{provider}-{model}"], "targets": [{"provider": provider, "model": model}], **limits}
               for provider, model in sorted({target for targets in ROUTES.values() for target in targets})]
    # Every target is to be asked, however often it failed.
    never = {"consecutiveFailures": 1000, "errorRate": 100, "minimumRequests": 10_000, "coolDown": "1ms", "maxCoolDown": "1ms",
             "refusedKey": "1ms", "spentQuota": "1ms", "longestTold": "1ms"}
    return {"providers": providers, "health": never, "routes": routes, "budgets": [entry(budget, plan.limits[budget.name]) for budget in plan.budgets]}


def entry(budget: Budget, limit: int) -> dict[str, Any]:
    amount = f"{limit // DOLLAR}.{limit % DOLLAR:012}" if budget.unit == "usd" else limit
    matches: dict[str, Any] = {"facts": {"header.x-mix": [*budget.mixes, f"probe-{budget.name}"]}}
    if budget.routes:
        matches["routes"] = [*budget.routes, "only-*"]
    if budget.at:
        matches["providers"] = list(budget.at)
    found = {"name": budget.name, "limit": {budget.unit: amount}, "per": list(budget.per), "match": matches,
             "onExceed": budget.exceed, "forgeable": True, "failedAttempts": "charge" if budget.charges_failed else "free"}
    if budget.kind != "concurrent":
        found["window"] = {budget.kind: f"{budget.length}ms" if isinstance(budget.length, int) else budget.length}
    return found
