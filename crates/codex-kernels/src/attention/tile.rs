//! Square tiles and their products: the inner loops of all the work here.
//!
//! Each product keeps rows of the result in registers and adds one rank at a time, so an element is a plain sum in the order of its terms,
//! however its rows are grouped. The products are functions of their own, chosen anew at each call: inlined into a long function, LLVM sometimes
//! leaves their sums in memory, which costs several times what the call does.

use crate::isa::{self, Isa, Kernel, fma};

/// Rows and columns of a tile: a cache line, two AVX2 registers or one of AVX-512.
pub(crate) const LANES: usize = 16;

/// One row of a tile.
pub(crate) type Lanes = [f32; LANES];

/// `[LANES, LANES]`, on a cache line's boundary.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Tile(pub(crate) [Lanes; LANES]);

impl Tile {
    /// Zeros.
    pub(crate) const ZERO: Self = Self([[0.0; LANES]; LANES]);

    /// Sets every element.
    #[inline(always)]
    pub(crate) fn fill(&mut self, value: f32) {
        self.0 = [[value; LANES]; LANES];
    }

    /// Writes the transposed `source`.
    #[inline(always)]
    pub(crate) fn transpose_from(&mut self, source: &Self) {
        for i in 0..LANES {
            for j in 0..LANES {
                self.0[j][i] = source.0[i][j];
            }
        }
    }
}

/// How many tiles hold `n` rows or columns.
pub(crate) fn tiles(n: usize) -> usize {
    n.div_ceil(LANES)
}

/// `sums += factor x row`
#[inline(always)]
fn add_scaled<const FMA: bool>(sums: &mut Lanes, factor: f32, row: &Lanes) {
    for j in 0..LANES {
        sums[j] = fma::<FMA>(factor, row[j], sums[j]);
    }
}

/// `c[i][j] = sum over p, k of a[p][i][k] b[p][k][j]`, for the first `depth` of all the `k`.
#[inline(never)]
pub(crate) fn set_dot(isa: Isa, c: &mut Tile, a: &[Tile], b: &[Tile], depth: usize) {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 => isa::run(isa, SetDot::<true> { c, a, b, depth }),
        Isa::Portable | Isa::Avx2 => isa::run(isa, SetDot::<false> { c, a, b, depth }),
    }
}

/// For each `p`: `c[p][i][j] += sum over k of a[i][k] b[p][k][j]`, for the first `depth` of the `k`.
#[inline(never)]
pub(crate) fn add_dot(isa: Isa, c: &mut [Tile], a: &Tile, b: &[Tile], depth: usize) {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 => isa::run(isa, AddDot::<true> { c, a, b, depth }),
        Isa::Portable | Isa::Avx2 => isa::run(isa, AddDot::<false> { c, a, b, depth }),
    }
}

/// For each `p` of the `c`: `c[p][i][j] += sum over t, k of a[t][k][i] b[t x n + p][k][j]`, where `n` is how many `c` there are.
#[inline(never)]
pub(crate) fn add_outer(isa: Isa, c: &mut [Tile], a: &[Tile], b: &[Tile]) {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 => isa::run(isa, AddOuter::<true> { c, a, b }),
        Isa::Portable | Isa::Avx2 => isa::run(isa, AddOuter::<false> { c, a, b }),
    }
}

struct SetDot<'a, const WIDE: bool> {
    c: &'a mut Tile,
    a: &'a [Tile],
    b: &'a [Tile],
    depth: usize,
}

impl<const WIDE: bool> Kernel for SetDot<'_, WIDE> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        dot::<FMA, WIDE, false>(self.c, self.a, self.b, self.depth);
    }
}

struct AddDot<'a, const WIDE: bool> {
    c: &'a mut [Tile],
    a: &'a Tile,
    b: &'a [Tile],
    depth: usize,
}

impl<const WIDE: bool> Kernel for AddDot<'_, WIDE> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (c, b) in self.c.iter_mut().zip(self.b) {
            dot::<FMA, WIDE, true>(c, std::slice::from_ref(self.a), std::slice::from_ref(b), self.depth);
        }
    }
}

struct AddOuter<'a, const WIDE: bool> {
    c: &'a mut [Tile],
    a: &'a [Tile],
    b: &'a [Tile],
}

impl<const WIDE: bool> Kernel for AddOuter<'_, WIDE> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let step = self.c.len();
        for (p, c) in self.c.iter_mut().enumerate() {
            outer::<FMA, WIDE>(c, self.a, &self.b[p..], step);
        }
    }
}

/// Adds the sums to what is there, or replaces it.
#[inline(always)]
fn finish<const ADD: bool>(c: &mut Lanes, sums: &Lanes) {
    for j in 0..LANES {
        c[j] = if ADD { c[j] + sums[j] } else { sums[j] };
    }
}

/// The two products for some rows of the result: a macro and not a constant parameter, because a loop over the rows stays a loop when LLVM meets
/// it in a long function, and then the sums stay in memory.
macro_rules! rows {
    ($dot:ident, $outer:ident: $($i:literal)*) => {
        #[inline(always)]
        fn $dot<const FMA: bool, const ADD: bool, const FROM: usize>(c: &mut Tile, a: &[Tile], b: &[Tile], depth: usize) {
            // From zeros even when adding: sums that start as loads lead LLVM to vectorise across the ends of rows.
            let mut sums = [$({ let _: usize = $i; [0.0; LANES] }),*];
            let mut left = depth;
            for (a, b) in a.iter().zip(b) {
                // A bound that is not a constant keeps this loop a loop.
                for k in 0..left.min(LANES) {
                    let row = b.0[k];
                    $(add_scaled::<FMA>(&mut sums[$i], a.0[FROM + $i][k], &row);)*
                }
                left = left.saturating_sub(LANES);
            }
            $(finish::<ADD>(&mut c.0[FROM + $i], &sums[$i]);)*
        }

        #[inline(always)]
        fn $outer<const FMA: bool, const FROM: usize>(c: &mut Tile, a: &[Tile], b: &[Tile], step: usize) {
            let mut sums = [$(c.0[FROM + $i]),*];
            for (a, b) in a.iter().zip(b.iter().step_by(step)) {
                for (factors, row) in a.0.iter().zip(&b.0) {
                    let row = *row;
                    $(add_scaled::<FMA>(&mut sums[$i], factors[FROM + $i], &row);)*
                }
            }
            $(c.0[FROM + $i] = sums[$i];)*
        }
    };
}

rows!(dot_2, outer_2: 0 1);
rows!(dot_5, outer_5: 0 1 2 3 4);
rows!(dot_6, outer_6: 0 1 2 3 4 5);
rows!(dot_16, outer_16: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// `c[i][j] = sum over p, k of a[p][i][k] b[p][k][j]`, for the first `depth` of all the `k`; with `ADD`, added to what is there.
#[inline(always)]
fn dot<const FMA: bool, const WIDE: bool, const ADD: bool>(c: &mut Tile, a: &[Tile], b: &[Tile], depth: usize) {
    // Rows by the registers there are: 32 of 16 lanes, 16 of 8, 16 of 4.
    if FMA && WIDE {
        dot_16::<FMA, ADD, 0>(c, a, b, depth);
    } else if FMA {
        dot_6::<FMA, ADD, 0>(c, a, b, depth);
        dot_5::<FMA, ADD, 6>(c, a, b, depth);
        dot_5::<FMA, ADD, 11>(c, a, b, depth);
    } else {
        dot_2::<FMA, ADD, 0>(c, a, b, depth);
        dot_2::<FMA, ADD, 2>(c, a, b, depth);
        dot_2::<FMA, ADD, 4>(c, a, b, depth);
        dot_2::<FMA, ADD, 6>(c, a, b, depth);
        dot_2::<FMA, ADD, 8>(c, a, b, depth);
        dot_2::<FMA, ADD, 10>(c, a, b, depth);
        dot_2::<FMA, ADD, 12>(c, a, b, depth);
        dot_2::<FMA, ADD, 14>(c, a, b, depth);
    }
}

/// `c[i][j] += sum over t, k of a[t][k][i] b[t x step][k][j]`.
#[inline(always)]
fn outer<const FMA: bool, const WIDE: bool>(c: &mut Tile, a: &[Tile], b: &[Tile], step: usize) {
    if FMA && WIDE {
        outer_16::<FMA, 0>(c, a, b, step);
    } else if FMA {
        outer_6::<FMA, 0>(c, a, b, step);
        outer_5::<FMA, 6>(c, a, b, step);
        outer_5::<FMA, 11>(c, a, b, step);
    } else {
        outer_2::<FMA, 0>(c, a, b, step);
        outer_2::<FMA, 2>(c, a, b, step);
        outer_2::<FMA, 4>(c, a, b, step);
        outer_2::<FMA, 6>(c, a, b, step);
        outer_2::<FMA, 8>(c, a, b, step);
        outer_2::<FMA, 10>(c, a, b, step);
        outer_2::<FMA, 12>(c, a, b, step);
        outer_2::<FMA, 14>(c, a, b, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, so that every order of a sum gives the same.
    fn numbers(n: usize, seed: usize) -> Vec<Tile> {
        let element = |t: usize, i: usize, j: usize| ((t * 31 + i * 17 + j * 5 + seed) % 13) as f32 - 6.0;
        (0..n).map(|t| Tile(std::array::from_fn(|i| std::array::from_fn(|j| element(t, i, j))))).collect()
    }

    fn assert_same(found: &[Tile], expected: &[Tile]) {
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.0, expected.0);
        }
    }

    fn check<const WIDE: bool>(isa: Isa) {
        for depth in [0, 1, 15, 16, 17, 31, 48] {
            let (a, b) = (numbers(3, 1), numbers(3, 2));
            let mut found = [numbers(1, 3)[0]];
            let mut expected = [Tile::ZERO];
            for k in 0..depth {
                for i in 0..LANES {
                    for j in 0..LANES {
                        expected[0].0[i][j] += a[k / LANES].0[i][k % LANES] * b[k / LANES].0[k % LANES][j];
                    }
                }
            }
            isa::run(isa, SetDot::<WIDE> { c: &mut found[0], a: &a, b: &b, depth });
            assert_same(&found, &expected);
        }
        for depth in [0, 1, 7, 16] {
            let (a, b) = (numbers(1, 1), numbers(3, 2));
            let (mut found, mut expected) = (numbers(3, 3), numbers(3, 3));
            for p in 0..3 {
                for k in 0..depth {
                    for i in 0..LANES {
                        for j in 0..LANES {
                            expected[p].0[i][j] += a[0].0[i][k] * b[p].0[k][j];
                        }
                    }
                }
            }
            isa::run(isa, AddDot::<WIDE> { c: &mut found, a: &a[0], b: &b, depth });
            assert_same(&found, &expected);
        }
        let (a, b) = (numbers(4, 1), numbers(8, 2));
        let (mut found, mut expected) = (numbers(2, 3), numbers(2, 3));
        for t in 0..4 {
            for p in 0..2 {
                for k in 0..LANES {
                    for i in 0..LANES {
                        for j in 0..LANES {
                            expected[p].0[i][j] += a[t].0[k][i] * b[t * 2 + p].0[k][j];
                        }
                    }
                }
            }
        }
        isa::run(isa, AddOuter::<WIDE> { c: &mut found, a: &a, b: &b });
        assert_same(&found, &expected);
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        // The grouping of rows that only the widest path uses is right on the others too, so it is tested on any machine.
        for isa in Isa::ALL {
            check::<false>(isa);
            check::<true>(isa);
        }
    }

    #[test]
    fn transposes() {
        let source = numbers(1, 1)[0];
        let mut found = Tile::ZERO;
        found.transpose_from(&source);
        for i in 0..LANES {
            for j in 0..LANES {
                assert_eq!(found.0[j][i].to_bits(), source.0[i][j].to_bits());
            }
        }
    }
}
