"""Vectors of numbers as values in Numba functions, of the width of this machine's registers.

PyPI's Numba has no vector mathematics, and whether LLVM turns a loop over coordinates into vector code depends on
aliasing and on how branches fold. A value of these types is one LLVM vector, so a loop over columns is vector code as
written: `load` (memory.py), operators, `select`, `store`.

A Kind names a type of vector at compile time (`zero(kind)`, `load(kind, address)`), a Choice something else that code
is compiled for (`if choice:` leaves one branch).
"""

from __future__ import annotations

import operator
import platform

from llvmlite import ir
from numba import config, types
from numba.core.codegen import get_host_cpu_features
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
    typeof_impl,
    unbox,
)

# NUMBA_CPU_FEATURES may name others than the processor's own.
_FEATURES = (get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES).split(",")
HAS_AVX512 = all(f"+avx512{part}" in _FEATURES for part in ("f", "dq", "bw", "vl"))
# Fused multiply-add is an extension of x86; the other processors that Numba serves have it.
HAS_FMA = "+fma" in _FEATURES or platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686")
LANES = 16 if HAS_AVX512 else 8 if "+avx2" in _FEATURES else 4  # of float32

_FUSED = ("contract",)  # a product may be fused with the sum it goes into; nothing else may change


class VectorType(types.Type):
    """`count` numbers of the scalar type `lane`."""

    def __init__(self, lane: types.Type, count: int):
        self.lane, self.count = lane, count
        super().__init__(name=f"{lane}x{count}")

    def like(self, lane: types.Type) -> VectorType:
        return VectorType(lane, self.count)


def lane_in_registers(lane: types.Type) -> ir.Type:
    if lane == types.boolean:
        return ir.IntType(1)
    if isinstance(lane, types.Float):
        return ir.FloatType() if lane.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(lane.bitwidth)


def vector_in_registers(vector: VectorType) -> ir.VectorType:
    return ir.VectorType(lane_in_registers(vector.lane), vector.count)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector_in_registers(vector))


class Kind:
    """A type of vector, as an argument of a kernel."""

    def __init__(self, lane: types.Type, count: int):
        self.vector = VectorType(lane, count)


class Choice:
    """A bool or a name, as an argument that a kernel is compiled for."""

    def __init__(self, value: bool | str):
        self.value = value


class _KindType(types.Opaque):
    def __init__(self, vector: VectorType):
        self.vector = vector
        super().__init__(name=f"kind({vector})")


class _ChoiceType(types.Opaque):
    def __init__(self, value: bool | str):
        self.value = value
        super().__init__(name=f"choice({value!r})")


FLOAT32, FLOAT64 = Kind(types.float32, LANES), Kind(types.float64, LANES // 2)
WORDS = Kind(types.uint32, LANES)
YES, NO = Choice(True), Choice(False)


@typeof_impl.register(Kind)
def _(value, context):
    return _KindType(value.vector)


@typeof_impl.register(Choice)
def _(value, context):
    return _ChoiceType(value.value)


for _type in (_KindType, _ChoiceType):
    register_model(_type)(models.OpaqueModel)

    @unbox(_type)
    def _(typ, obj, c):
        return NativeValue(c.context.get_dummy_value())

    @lower_constant(_type)
    def _(context, builder, typ, value):
        return context.get_dummy_value()


@type_callable(operator.truth)
@type_callable(bool)
def _(context):
    return lambda choice: types.boolean if isinstance(choice, _ChoiceType) else None


@lower_builtin(operator.truth, _ChoiceType)
@lower_builtin(bool, _ChoiceType)
def _(context, builder, signature, arguments):
    return ir.Constant(ir.IntType(1), int(signature.args[0].value))


def splatted(builder, scalar: ir.Value, count: int) -> ir.Value:
    """A vector whose lanes all hold a scalar."""
    if isinstance(scalar, ir.Constant):
        return ir.Constant(ir.VectorType(scalar.type, count), [scalar.constant] * count)
    one = builder.insert_element(ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined), scalar,
                                 ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


def _as_vector(context, builder, value, given: types.Type, vector: VectorType) -> ir.Value:
    if isinstance(given, VectorType):
        return value
    return splatted(builder, context.cast(builder, value, given, vector.lane), vector.count)


def _common(a, b) -> VectorType | None:
    """The type that an operator on a and b computes in: that of the vectors, scalars joining either side."""
    if isinstance(a, VectorType):
        return a if isinstance(b, types.Number) or a == b else None
    return b if isinstance(b, VectorType) and isinstance(a, types.Number) else None


def _define_operator(python, build, result=lambda vector: vector):
    @type_callable(python)
    def _(context):
        def typer(a, b):
            vector = _common(a, b)
            return None if vector is None else result(vector)

        return typer

    def lower(context, builder, signature, arguments):
        vector = _common(*signature.args)
        return build(builder, vector.lane, *(_as_vector(context, builder, value, given, vector)
                                             for value, given in zip(arguments, signature.args)))

    for pair in ((VectorType, VectorType), (VectorType, types.Number), (types.Number, VectorType)):
        lower_builtin(python, *pair)(lower)


def _arithmetic(on_floats: str, on_integers: str | None):
    def build(builder, lane, a, b):
        if isinstance(lane, types.Float):
            return getattr(builder, on_floats)(a, b, flags=_FUSED)
        return getattr(builder, on_integers)(a, b)

    return build


def _comparison(symbol: str):
    def build(builder, lane, a, b):
        if isinstance(lane, types.Float):
            return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, a, b)
        return (builder.icmp_signed if lane.signed else builder.icmp_unsigned)(symbol, a, b)

    return build


def _right_shift(builder, lane, a, b):
    return (builder.ashr if lane.signed else builder.lshr)(a, b)


for _python in (operator.add, operator.iadd):
    _define_operator(_python, _arithmetic("fadd", "add"))
for _python in (operator.sub, operator.isub):
    _define_operator(_python, _arithmetic("fsub", "sub"))
_define_operator(operator.mul, _arithmetic("fmul", "mul"))
_define_operator(operator.truediv, _arithmetic("fdiv", None))
_define_operator(operator.rshift, _right_shift)
for _python, _name in ((operator.and_, "and_"), (operator.or_, "or_"), (operator.xor, "xor"), (operator.lshift, "shl")):
    _define_operator(_python, lambda builder, lane, a, b, name=_name: getattr(builder, name)(a, b))
for _python, _symbol in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="),
                         (operator.eq, "=="), (operator.ne, "!=")):
    _define_operator(_python, _comparison(_symbol), lambda vector: vector.like(types.boolean))


@type_callable(operator.neg)
def _(context):
    return lambda a: a if isinstance(a, VectorType) and isinstance(a.lane, types.Float) else None


@lower_builtin(operator.neg, VectorType)
def _(context, builder, signature, arguments):
    return builder.fneg(arguments[0])


def _converter(lane: types.Type, bits: bool, doc: str):
    """An intrinsic that turns the lanes of a vector into another type: their value, or their bits."""

    def convert(typingctx, vector):
        result = vector.like(lane)

        def lower(context, builder, signature, arguments):
            given, to = signature.args[0].lane, vector_in_registers(result)
            if bits or given == lane:
                return builder.bitcast(arguments[0], to)
            was_float, is_float = isinstance(given, types.Float), isinstance(lane, types.Float)
            if was_float and is_float:
                return (builder.fpext if lane.bitwidth > given.bitwidth else builder.fptrunc)(arguments[0], to)
            if is_float:
                is_signed = given != types.boolean and given.signed
                return (builder.sitofp if is_signed else builder.uitofp)(arguments[0], to)
            if given.bitwidth == lane.bitwidth:
                return arguments[0]
            if given.bitwidth > lane.bitwidth:
                return builder.trunc(arguments[0], to)
            return (builder.sext if given.signed else builder.zext)(arguments[0], to)

        return result(vector), lower

    convert.__doc__ = doc
    return intrinsic(convert)


to_float32 = _converter(types.float32, False, "The numbers as float32.")
to_float64 = _converter(types.float64, False, "The numbers as float64; of a mask 1 and 0.")
to_int32 = _converter(types.int32, False, "Integers as int32.")
to_uint16 = _converter(types.uint16, False, "The low 16 bits of integers.")
to_uint32 = _converter(types.uint32, False, "Integers as uint32.")
bits_float32 = _converter(types.float32, True, "32 bits read as float32.")
bits_float64 = _converter(types.float64, True, "64 bits read as float64.")
bits_int32 = _converter(types.int32, True, "32 bits read as int32.")
bits_uint32 = _converter(types.uint32, True, "32 bits read as uint32.")
bits_int64 = _converter(types.int64, True, "64 bits read as int64.")


@intrinsic
def to_kind(typingctx, kind, vector):
    """The numbers of a vector of floats in the lanes of a kind."""

    def lower(context, builder, signature, arguments):
        given, to = signature.args[1].lane, vector_in_registers(kind.vector)
        if given == kind.vector.lane:
            return arguments[1]
        wider = kind.vector.lane.bitwidth > given.bitwidth
        return (builder.fpext if wider else builder.fptrunc)(arguments[1], to)

    return kind.vector(kind, vector), lower


@intrinsic
def splat(typingctx, kind, scalar):
    """A vector of a kind whose lanes all hold a number."""

    def lower(context, builder, signature, arguments):
        return _as_vector(context, builder, arguments[1], signature.args[1], kind.vector)

    return kind.vector(kind, scalar), lower


@intrinsic
def zero(typingctx, kind):
    return kind.vector(kind), lambda *_: ir.Constant(vector_in_registers(kind.vector), None)


@intrinsic
def count_of(typingctx, kind):
    """The number of lanes."""
    return types.intp(kind), lambda *_: ir.Constant(ir.IntType(64), kind.vector.count)


@intrinsic
def size_of(typingctx, kind):
    """Bytes of one lane."""
    return types.intp(kind), lambda *_: ir.Constant(ir.IntType(64), kind.vector.lane.bitwidth // 8)


@intrinsic
def lane_numbers(typingctx, kind):
    """0, 1, 2, ... in the lanes."""
    numbers = [float(i) if isinstance(kind.vector.lane, types.Float) else i for i in range(kind.vector.count)]
    return kind.vector(kind), lambda *_: ir.Constant(vector_in_registers(kind.vector), numbers)


@intrinsic
def select(typingctx, mask, yes, no):
    """Lane by lane, yes where the mask holds, else no; one of the two may be a number."""
    vector = yes if isinstance(yes, VectorType) else no

    def lower(context, builder, signature, arguments):
        return builder.select(arguments[0], *(_as_vector(context, builder, value, given, vector)
                                              for value, given in zip(arguments[1:], signature.args[1:])))

    return vector(mask, yes, no), lower


@intrinsic
def any_of(typingctx, mask):
    """Whether a mask holds in any lane."""

    def lower(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), lower


@intrinsic
def total(typingctx, vector):
    """The sum of the lanes, from the first to the last."""

    def lower(context, builder, signature, arguments):
        sum_ = ir.Constant(lane_in_registers(vector.lane), 0.0)
        for i in range(vector.count):
            sum_ = builder.fadd(sum_, builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), i)))
        return sum_

    return vector.lane(vector), lower


def call_llvm(builder, name: str, result: ir.Type, *arguments):
    """A call of LLVM's own function of that name."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), arguments)


@intrinsic
def sqrt(typingctx, vector):
    def lower(context, builder, signature, arguments):
        name = f"llvm.sqrt.v{vector.count}f{vector.lane.bitwidth}"
        return call_llvm(builder, name, arguments[0].type, *arguments)

    return vector(vector), lower


@intrinsic
def rounded_product(typingctx, a, b):
    """a * b, rounded also where it goes into a difference, so that equal products differ by nothing."""
    return a(a, b), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def scale_by_power(typingctx, vector, exponents):
    """x * 2^n for vectors of integers n; AVX-512 has an instruction for it."""

    def lower(context, builder, signature, arguments):
        name = f"llvm.ldexp.v{vector.count}f{vector.lane.bitwidth}.v{vector.count}i32"
        return call_llvm(builder, name, arguments[0].type, *arguments)

    return vector(vector, exponents), lower


@intrinsic
def horner(typingctx, x, coefficients):
    """c[0] + c[1] x + ... for a tuple of numbers c."""

    def lower(context, builder, signature, arguments):
        x, numbers = arguments
        given, vector = signature.args[1].dtype, signature.args[0]
        terms = [_as_vector(context, builder, builder.extract_value(numbers, i), given, vector)
                 for i in range(len(signature.args[1]))]
        result = terms[-1]
        for term in reversed(terms[:-1]):
            result = builder.fadd(builder.fmul(result, x, flags=_FUSED), term, flags=_FUSED)
        return result

    return x(x, coefficients), lower


def _shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


@intrinsic
def transpose_quads(typingctx, a, b, c, d):
    """4 x 4 transposes inside each group of four lanes: result j holds, in group m, lane 4 m + j of a, b, c and d."""

    def lower(context, builder, signature, arguments):
        a, b, c, d = arguments
        n = signature.args[0].count

        def pick(x, y, *lanes):  # lanes of each group, those of y counted from 4
            return _shuffled(builder, x, y, [g + i % 4 + (n if i >= 4 else 0) for g in range(0, n, 4) for i in lanes])

        ab0, ab1, cd0, cd1 = (pick(x, y, *lanes) for x, y in ((a, b), (c, d)) for lanes in ((0, 4, 1, 5), (2, 6, 3, 7)))
        rows = [pick(x, y, *lanes) for x, y in ((ab0, cd0), (ab1, cd1)) for lanes in ((0, 1, 4, 5), (2, 3, 6, 7))]
        return context.make_tuple(builder, signature.return_type, rows)

    return types.UniTuple(a, 4)(a, b, c, d), lower


@intrinsic
def multiply_words(typingctx, words, constant):
    """High and low words of the 64-bit products of uint32 lanes with one uint32."""

    def lower(context, builder, signature, arguments):
        words, n = arguments[0], signature.args[0].count
        wide = ir.VectorType(ir.IntType(64), n // 2)

        def splat64(number):
            return ir.Constant(wide, [number] * (n // 2))

        factor = builder.zext(context.cast(builder, arguments[1], signature.args[1], types.uint32), ir.IntType(64))
        factor = splatted(builder, factor, n // 2)
        pairs = builder.bitcast(words, wide)
        even = builder.mul(builder.and_(pairs, splat64(0xFFFFFFFF)), factor)
        odd = builder.mul(builder.lshr(pairs, splat64(32)), factor)
        blend = [i + (n if i % 2 else 0) for i in range(n)]
        high = _shuffled(builder, builder.bitcast(builder.lshr(even, splat64(32)), words.type),
                         builder.bitcast(odd, words.type), blend)
        low = _shuffled(builder, builder.bitcast(even, words.type),
                        builder.bitcast(builder.shl(odd, splat64(32)), words.type), blend)
        return context.make_tuple(builder, signature.return_type, [high, low])

    return types.UniTuple(words, 2)(words, constant), lower
