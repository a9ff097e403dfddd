// The type of a vector's numbers; of a number, its own.
#pragma once
#include <type_traits>

namespace compvae {

template <class V, class = void>
struct ElementType {
    using Type = V;
};
template <class V>
struct ElementType<V, std::void_t<decltype(std::declval<V&>()[0])>> {
    using Type = std::decay_t<decltype(std::declval<V&>()[0])>;
};
template <class V>
using ScalarOf = typename ElementType<V>::Type;

}  // namespace compvae
