// The noise of single parts, w_i - mu_i, once the sums over the set are known; and the gradient of anything that is a
// function of the parts. Only a part with rho > 1/2 needs the forms that keep it apart; it is m, the one with the
// largest logit.
#pragma once
#include "multiset.h"

namespace compvae {
namespace COMPVAE_ISA {

// One column of a set's sums, as the operations on parts keep them.
template <class T, Coupling C>
struct PartColumn {
    using V = typename Simd<T>::V;
    using S = Stats<C, false, true>;
    static constexpr bool unit = C == Coupling::unit;
    V ref, inverse_z, one_minus_rho_m, noise, noise_others, rest_of_rho;

    PartColumn(const T (*stats)[BLOCK], int column) {
        const V logit = load<V>(stats[S::LARGEST_LOGIT] + column);
        ref = select<V>(logit < 0, V{}, logit);
        inverse_z = load<V>(stats[S::INVERSE_Z] + column);
        one_minus_rho_m = load<V>(stats[S::ONE_MINUS_RHO_M] + column);
        noise = load<V>(stats[S::NOISE] + column);
        noise_others = load<V>(stats[S::NOISE_OTHERS] + column);
        rest_of_rho = load<V>(stats[S::NOISE_FACTOR] + column);
    }
    V rho(V logit) const { return rho_of_power(exp(logit - ref)); }
    V rho_of_power(V power) const { return power * inverse_z; }
    // The same for powers by another ref.
    PartColumn by(V other_ref) const {
        PartColumn column = *this;
        column.ref = other_ref;
        column.inverse_z = inverse_z * exp(other_ref - ref);
        return column;
    }
    // w_i - mu_i
    V of_part(V rho, V sigma, V eps) const {
        const auto is_m = rho > T(0.5);
        const V own = select<V>(is_m, one_minus_rho_m * eps, eps), others = rho * select<V>(is_m, noise_others, noise);
        return unit ? sigma * (own - others) : sigma * own - others;
    }
};

// a_i - sum_j rho_j a_j over a set, where a_i is the upstream gradient of w_i ("scaled") or sigma_i times that
// ("unit"). Where sum rho >= 1/2 it is taken relative to a_r, r being the part with the largest rho:
//     (a_i - a_r) + a_r (1 - sum rho) - sum_j rho_j (a_j - a_r),
// so that nothing cancels where all a are nearly the same. Where sum rho is less, nothing does, and a_r could be large.
template <class T>
class Centred {
    using V = typename Simd<T>::V;
    static constexpr int N = Simd<T>::N;

  public:
    void clear() {
        std::memset(reference_, 0, sizeof reference_);
        std::memset(largest_, 0, sizeof largest_);
        std::memset(sum_, 0, sizeof sum_);
        std::memset(rhos_, 0, sizeof rhos_);
    }
    // rho and a of n parts
    void add(int column, int n, const V* rho, const V* a) {
        const V old = load<V>(reference_ + column);
        V reference = old, largest = load<V>(largest_ + column), sum{}, rhos{};
        for (int k = 0; k < n; ++k) {
            const auto larger = rho[k] > largest;
            reference = select<V>(larger, a[k], reference);
            largest = select<V>(larger, rho[k], largest);
        }
        for (int k = 0; k < n; ++k) {
            sum += rho[k] * (a[k] - reference);
            rhos += rho[k];
        }
        for (int i = 0; i < N; ++i) {
            const int c = column + i;
            sum_[c] += (double(old[i]) - double(reference[i])) * rhos_[c] + sum[i];
            rhos_[c] += rhos[i];
        }
        store(reference_ + column, reference);
        store(largest_ + column, largest);
    }
    // After the last part.
    void settle() {
        for (int i = 0; i < BLOCK; ++i)
            if (rhos_[i] < 0.5) {
                sum_[i] += reference_[i] * rhos_[i];
                reference_[i] = T(0);
            }
    }
    // What to add to a_i - a_r, given 1 - sum rho; and a_r.
    V offset(int column, V rest_of_rho) const {
        V sum;
        for (int i = 0; i < N; ++i) sum[i] = T(sum_[column + i]);
        return reference(column) * rest_of_rho - sum;
    }
    V reference(int column) const { return load<V>(reference_ + column); }

    // The sums over a shard as rows [3][B][D]: a_r, sum_j rho_j (a_j - a_r), sum rho.
    void write(const Sets& sets, const Place& place, double* rows) const {
        double all[3][BLOCK];
        for (int i = 0; i < BLOCK; ++i) all[0][i] = reference_[i], all[1][i] = sum_[i], all[2][i] = rhos_[i];
        write_stats(rows, 3, sets, place, all);
    }
    // Those over the whole set, the first two rows.
    void read(const Sets& sets, const Place& place, const double* rows) {
        double all[2][BLOCK];
        read_stats(rows, 2, sets, place, all);
        for (int i = 0; i < BLOCK; ++i) reference_[i] = T(all[0][i]), sum_[i] = all[1][i];
    }

  private:
    alignas(64) T reference_[BLOCK], largest_[BLOCK];  // a_r, rho_r
    double sum_[BLOCK], rhos_[BLOCK];
};

}  // namespace COMPVAE_ISA
}  // namespace compvae
