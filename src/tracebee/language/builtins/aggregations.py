"""Built-ins that add a value to what a map keeps: count, sum, hist and their relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin, literal_number
from tracebee.language.ir import Address, MapSpot
from tracebee.language.rules import is_integer, is_signed
from tracebee.spec.objects import GLOBALS_MAP, Globals
from tracebee.spec.types import (
    Average,
    Extreme,
    TSeries,
    Type,
)
from tracebee.spec.types import (
    Count as CountType,
)
from tracebee.spec.types import (
    Hist as HistType,
)
from tracebee.spec.types import (
    LHist as LHistType,
)
from tracebee.spec.types import (
    Sum as SumType,
)

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.build import MapPlan
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference

MAX_BUCKETS = 1000
MAX_INTERVALS = 1_000_000


class Aggregate(Builtin):
    """What they share: they make sense only as ``@map = function(…)``."""

    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        for argument in call.arguments:
            infer.visit(argument)
        infer.error(
            f"{self.name}() must be assigned directly to a map", call.span, f"write @ = {self.forms[0]}"
        )
        return VOID

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        """The type of the map; visits the arguments."""
        raise NotImplementedError

    def update(self, low: Lowering, call: tree.Call, target: tree.MapAccess) -> None:
        """Code for ``target = call``."""
        from tracebee.language.lower import expressions, maps

        value = expressions.number(low, call.arguments[0]) if call.arguments else 0
        with maps.element(low, target) as element:
            self.add(low, call, element, value, maps.plan_of(low, target))

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        """Code that adds a value to an element."""
        raise NotImplementedError

    def signed_argument(self, infer: Inference, call: tree.Call) -> bool:
        """Infer the first argument, which must be a number; whether it is signed."""
        type_ = infer.number(call.arguments[0])
        if not is_integer(type_):
            infer.error(
                f"{self.name}() only supports integer arguments ({infer.noun(type_)} provided)", call.span
            )
        return is_signed(type_)


def bump(low: Lowering, plan: MapPlan, address: Address, amount: Operand) -> None:
    """Add to a number in an element of a map.

    Only this CPU writes there if the map is per-CPU.  All the same a program of most kinds may be interrupted,
    between reading and writing, by another one that counts in the same place.
    """
    if plan.is_exclusive:
        low.store(address, low.alu("+", low.load(address, 8), amount), 8)
    else:
        low.atomic("+", address, amount)


class Count(Aggregate):
    name = "count"
    forms = ("count()",)
    description = "count calls"

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        return CountType()

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        bump(low, plan, element, 1)


class Sum(Aggregate):
    name = "sum"
    forms = ("sum(n)",)
    description = "add up numbers"
    minimum = maximum = 1

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        return SumType(self.signed_argument(infer, call))

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        bump(low, plan, element, value)


class Avg(Aggregate):
    name = "avg"
    forms = ("avg(n)",)
    description = "average of numbers"
    minimum = maximum = 1

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        return Average(self.signed_argument(infer, call), False)

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        bump(low, plan, element, value)
        bump(low, plan, element.plus(8), 1)


class Stats(Avg):
    name = "stats"
    forms = ("stats(n)",)
    description = "count, average and total of numbers"

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        return Average(self.signed_argument(infer, call), True)


class Max(Aggregate):
    name = "max"
    forms = ("max(n)",)
    description = "largest number"
    minimum = maximum = 1
    largest = True

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        return Extreme(self.largest, self.signed_argument(infer, call))

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        type_ = plan.value
        assert isinstance(type_, Extreme)
        better, done = low.label("better"), low.label("kept")
        low.branch("==", low.load(element.plus(8), 8), 0, better)
        operator = ("s" if type_.signed else "") + (">=" if not type_.largest else "<=")
        low.branch(operator, value, low.load(element, 8), done)
        low.place_label(better)
        low.store(element, value, 8)
        low.store(element.plus(8), 1, 8)
        low.place_label(done)


class Min(Max):
    name = "min"
    forms = ("min(n)",)
    description = "smallest number"
    largest = False


class Hist(Aggregate):
    name = "hist"
    forms = ("hist(n)", "hist(n, bits)")
    description = "histogram whose buckets are powers of two, each split into 2^bits parts (0 to 5)"
    minimum = 1
    maximum = 2

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        self.signed_argument(infer, call)
        bits = 0
        if len(call.arguments) == 2:
            bits = literal_number(infer, call, 1) or 0
        if not 0 <= bits <= 5:
            infer.error(f"hist: bits {bits} must be 0..5", call.span)
            bits = 0
        return HistType(bits)

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        type_ = plan.value
        assert isinstance(type_, HistType)
        index = low.move(0, "bucket")
        counted = low.label("counted")
        if is_signed(call.arguments[0].type):
            low.branch("s<", value, 0, counted)
        low.set(index, log_bucket(low, value, type_.bits))
        low.place_label(counted)
        bump_bucket(low, plan, element, index, type_.buckets)


def log_bucket(low: Lowering, value: Operand, bits: int) -> Operand:
    """The bucket of a number that is not negative; see tracebee.spec.types.Hist."""
    position = highest_bit(low, low.move(value))
    if bits == 0:
        # 0 has no highest bit: its position is 0, like that of 1, and its bucket the one before.
        result = low.move(low.alu("+", position, 2))
        done = low.label("bucket")
        low.branch("!=", value, 0, done)
        low.set(result, 1)
        low.place_label(done)
        return result
    result = low.move(low.alu("+", value, 1))
    done = low.label("bucket")
    low.branch("<", value, 1 << bits, done)
    shift = low.alu("&", low.alu("-", position, bits), 63)
    base = low.alu("<<", low.alu("+", shift, 1), bits)
    part = low.alu("&", low.alu(">>", value, shift), (1 << bits) - 1)
    low.set(result, low.alu("+", low.alu("+", base, part), 1))
    low.place_label(done)
    return result


def highest_bit(low: Lowering, value: Operand) -> Operand:
    """The position of the highest set bit, 0 for 0, without a branch: paths multiply in the verifier.

    In each step the sign of (limit - value) says whether the value is above the limit; the first one halves
    both, so that values of 64 bits do not look negative.
    """
    position: Operand = 0
    halved = low.alu(">>", value, 1)
    above = low.alu(">>", low.alu("-", 0x7FFF_FFFF, halved), 63)
    step = low.alu("<<", above, 5)
    value = low.alu(">>", value, step)
    position = step
    for shift in (4, 3, 2, 1, 0):
        limit = (1 << (1 << shift)) - 1
        above = low.alu(">>", low.alu("-", limit, value), 63)
        step = low.alu("<<", above, shift)
        value = low.alu(">>", value, step)
        position = low.alu("|", position, step)
    return position


def bump_bucket(low: Lowering, plan: MapPlan, element: Address, index: Operand, buckets: int) -> None:
    """Count in one of the buckets of an element."""
    from tracebee.language.lower import memory

    checked = memory.bounded(low, index, buckets - 1)
    offset = low.alu("<<", checked, 3)
    place = low.alu("+", low.pointer(element), offset)
    bump(low, plan, low.address(place), 1)


class Lhist(Aggregate):
    name = "lhist"
    forms = ("lhist(n, min, max, step)",)
    description = "histogram of buckets of equal size"
    minimum = maximum = 4

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        self.signed_argument(infer, call)
        values = [literal_number(infer, call, index) for index in (1, 2, 3)]
        low, high, step = values
        if low is None or high is None or step is None:
            return VOID
        if step <= 0:
            infer.error(f"lhist() step must be >= 1 ({step} provided)", call.span)
            return VOID
        if low >= high:
            infer.error(f"lhist() min must be less than max (provided min {low} and max {high})", call.span)
            return VOID
        if low < 0:
            infer.error(f"lhist() min must be non-negative (provided min {low})", call.span)
            return VOID
        buckets = (high - low + step - 1) // step
        if buckets > MAX_BUCKETS:
            infer.error(
                f"lhist() too many buckets, must be <= {MAX_BUCKETS} (would need {buckets})", call.span
            )
            return VOID
        return LHistType(low, high, step)

    def add(self, low: Lowering, call: tree.Call, element: Address, value: Operand, plan: MapPlan) -> None:
        type_ = plan.value
        assert isinstance(type_, LHistType)
        signed = "s" if is_signed(call.arguments[0].type) else ""
        index = low.move(0, "bucket")
        counted = low.label("counted")
        low.branch(f"{signed}<", value, type_.minimum, counted)
        low.set(index, type_.buckets - 1)
        low.branch(f"{signed}>=", value, type_.maximum, counted)
        inside = low.alu("/", low.alu("-", value, type_.minimum), type_.step)
        low.set(index, low.alu("+", inside, 1))
        low.place_label(counted)
        bump_bucket(low, plan, element, index, type_.buckets)


class Tseries(Aggregate):
    name = "tseries"
    forms = ("tseries(n, interval, count)", 'tseries(n, interval, count, "avg"|"max"|"min"|"sum")')
    description = "a value for each of the last intervals of time"
    minimum = 3
    maximum = 4
    functions = ("avg", "max", "min", "sum")

    def aggregation(self, infer: Inference, call: tree.Call) -> Type:
        infer.unstable("tseries", call.span)
        signed = self.signed_argument(infer, call)
        interval, count = literal_number(infer, call, 1), literal_number(infer, call, 2)
        function = "last"
        if len(call.arguments) == 4:
            chosen = call.arguments[3]
            function = chosen.text if isinstance(chosen, tree.Text) else ""
            if function not in self.functions:
                infer.error(
                    f"tseries() expects one of the following aggregation functions: {', '.join(self.functions)} "
                    f'("{function}" provided)',
                    call.span,
                )
                return VOID
        if interval is None or count is None:
            return VOID
        if interval <= 0:
            infer.error("tseries() interval_ns must be positive", call.span)
            return VOID
        if not 1 <= count < MAX_INTERVALS:
            infer.error(f"tseries() num_intervals must be between 1 and {MAX_INTERVALS - 1}", call.span)
            return VOID
        return TSeries(interval, count, function, signed)

    def update(self, low: Lowering, call: tree.Call, target: tree.MapAccess) -> None:
        from tracebee.language.lower import expressions, maps, memory

        plan = maps.plan_of(low, target)
        type_ = plan.value
        assert isinstance(type_, TSeries)
        value = expressions.number(low, call.arguments[0])
        now = self._now(low, call)
        number = low.alu("/", now, type_.interval)
        with maps.element(low, target) as element:
            slot = memory.bounded(low, low.alu("%", number, type_.count), type_.count - 1)
            place = low.address(low.alu("+", low.pointer(element), low.alu("*", slot, type_.SLOT)))
            self._put(low, plan, place, low.alu("+", number, 1), value, now)

    def _now(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import maps

        clock = low.build.clock_map
        if clock in low.build.maps:
            access = tree.MapAccess(call.span, clock, None)
            access.type = low.build.maps[clock].value
            return maps.read(low, access)
        offset = low.load(low.address(MapSpot(GLOBALS_MAP, Globals.WALL_OFFSET)), 8)
        return low.alu("+", low.call("ktime_get_boot_ns"), offset)

    def _put(
        self, low: Lowering, plan: MapPlan, place: Address, number: Operand, value: Operand, now: Operand
    ) -> None:
        """Enter a value into its interval's slot; an older interval in the slot is forgotten."""
        type_ = plan.value
        assert isinstance(type_, TSeries)
        known, done = low.label("known"), low.label("entered")
        extra: Operand = now if type_.function == "last" else 1
        low.branch("==", low.load(place, 8), number, known)
        low.store(place, number, 8)
        low.store(place.plus(8), value, 8)
        low.store(place.plus(16), extra, 8)
        low.jump(done)
        low.place_label(known)
        match type_.function:
            case "last":
                low.store(place.plus(8), value, 8)
                low.store(place.plus(16), extra, 8)
            case "max" | "min":
                operator = ("s" if type_.signed else "") + ("<=" if type_.function == "max" else ">=")
                low.branch(operator, value, low.load(place.plus(8), 8), done)
                low.store(place.plus(8), value, 8)
            case _:
                bump(low, plan, place.plus(8), value)
                bump(low, plan, place.plus(16), 1)
        low.place_label(done)
