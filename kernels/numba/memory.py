"""Memory as kernels see it: vectors and single numbers at plain addresses, as the native kernels are given them."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from compvae_fast.kernels.numba.vectors import call_llvm, lane_in_registers, vector_in_registers


def _pointer(builder, address, to: ir.Type):
    return builder.inttoptr(address, to.as_pointer())


def _loader(lane: types.Type | None, doc: str):
    """An intrinsic that reads as many numbers as a kind has lanes, of the kind's own type or another."""

    def read(typingctx, kind, address):
        vector = kind.vector if lane is None else kind.vector.like(lane)

        def lower(context, builder, signature, arguments):
            pointer = _pointer(builder, arguments[1], vector_in_registers(vector))
            return builder.load(pointer, align=vector.lane.bitwidth // 8)

        return vector(kind, types.intp), lower

    read.__doc__ = doc
    return intrinsic(read)


load = _loader(None, "The vector of a kind at an address, which need only be aligned as a lane is.")
load_float32 = _loader(types.float32, "As many float32 as a kind has lanes.")
load_float64 = _loader(types.float64, "As many float64 as a kind has lanes.")
load_uint16 = _loader(types.uint16, "As many uint16 as a kind has lanes.")


@intrinsic
def store(typingctx, address, vector):
    def lower(context, builder, signature, arguments):
        pointer = _pointer(builder, arguments[0], arguments[1].type)
        builder.store(arguments[1], pointer, align=vector.lane.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.intp, vector), lower


def _number_at(number: types.Type):
    """Intrinsics that read and write one number of a type at an address."""
    form = lane_in_registers(number)

    @intrinsic
    def read(typingctx, address):
        def lower(context, builder, signature, arguments):
            return builder.load(_pointer(builder, arguments[0], form))

        return number(types.intp), lower

    @intrinsic
    def write(typingctx, address, value):
        def lower(context, builder, signature, arguments):
            value = context.cast(builder, arguments[1], signature.args[1], number)
            builder.store(value, _pointer(builder, arguments[0], form))
            return context.get_dummy_value()

        return types.void(types.intp, value), lower

    return read, write


read_int64, write_int64 = _number_at(types.int64)
read_float32, write_float32 = _number_at(types.float32)
read_float64, write_float64 = _number_at(types.float64)
read_uint32, write_uint32 = _number_at(types.uint32)
read_uint16, write_uint16 = _number_at(types.uint16)
read_uint8, _ = _number_at(types.uint8)


@intrinsic
def prefetch(typingctx, address):
    """Asks for the line of memory at an address, which need not be anyone's."""

    def lower(context, builder, signature, arguments):
        for_reading, into_second_level, of_data = (ir.Constant(ir.IntType(32), i) for i in (0, 2, 1))
        pointer = _pointer(builder, arguments[0], ir.IntType(8))
        call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, for_reading, into_second_level, of_data)
        return context.get_dummy_value()

    return types.void(types.intp), lower


@intrinsic
def fetch_add(typingctx, address, number):
    """Adds to the int64 at an address, as one step for all threads; gives what was there."""

    def lower(context, builder, signature, arguments):
        return builder.atomic_rmw("add", _pointer(builder, arguments[0], ir.IntType(64)), arguments[1], "monotonic")

    return types.int64(types.intp, types.int64), lower
